// SPDX-License-Identifier: Apache-2.0

package output

import (
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestEscape(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"plain", "nginx: master process", "nginx: master process"},
		{"letters of others", "größe 日本 é", "größe 日本 é"},
		{"replacement character", "\ufffd", "\ufffd"},
		{"escape sequence", "\x1b[31mred\x1b[0m", `\x1b[31mred\x1b[0m`},
		{"line ends", "a\nb\rc\td", `a\nb\rc\td`},
		{"NUL and DEL", "\x00\x7f", `\x00\x7f`},
		{"C1", "\u0085\u009b1m", `\u0085\u009b1m`},
		{"C1 as bytes", "\x9b1m", `\x9b1m`},
		{"bidi", "\u202e\u2066\u2069\u200e\u200f\u061c", `\u202e\u2066\u2069\u200e\u200f\u061c`},
		{"line separators", "\u2028\u2029", `\u2028\u2029`},
		{"spaces that look like one", "\u00a0\u3000", `\u00a0\u3000`},
		{"invisible", "\u200b\ufeff\U000e0001", `\u200b\ufeff\U000e0001`},
		{"cut character", "\xe6\x97", `\xe6\x97`},
		{"backslash", `\x1b`, `\\x1b`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := string(Escape(nil, tc.in)); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func FuzzEscape(f *testing.F) {
	for _, seed := range []string{"curl", "\x1b[2J", "\u202egpj.exe", "\xff\xfe\x80", `\x1b"`, "\U0010ffff\u2028"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := string(Escape([]byte("> "), s))
		checkPrintable(t, got)
		escaped := strings.ReplaceAll(strings.TrimPrefix(got, "> "), `"`, `\"`)
		if back, err := strconv.Unquote(`"` + escaped + `"`); err != nil || back != s {
			t.Errorf("%q is %q, which means %q (%v)", s, got, back, err)
		}
	})
}

func checkPrintable(t *testing.T, s string) {
	t.Helper()
	if !utf8.ValidString(s) {
		t.Errorf("not UTF-8: %q", s)
	}
	for _, r := range s {
		bidi := r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x200e || r == 0x200f || r == 0x061c
		if bidi || !strconv.IsPrint(r) {
			t.Errorf("%U in %q", r, s)
		}
	}
}
