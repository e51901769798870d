// SPDX-License-Identifier: Apache-2.0

package tracer

// The compiler is pinned: objects differ between versions of clang, and CI compares them.
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target amd64,arm64 -tags linux looptrace ../bpf/looptrace.bpf.c -- -O2 -mcpu=v2 -Wall -Werror -I../bpf/headers
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target amd64,arm64 -tags linux look ../bpf/look.bpf.c -- -O2 -mcpu=v2 -Wall -Werror -I../bpf/headers
