/* SPDX-License-Identifier: GPL-2.0 */
/* Entry points of walks over the kernel's tables. */
#ifndef LOOPTRACE_ITER_H
#define LOOPTRACE_ITER_H

#include "held.h"

/* The table of open files. Locals: clang would read ctx again, and the verifier forget that it is not NULL. */
#define OPEN_FILES(name, body)                                                                     \
	SEC("iter/task_file")                                                                      \
	int name(struct bpf_iter__task_file *ctx)                                                  \
	{                                                                                          \
		struct task_struct *task = ctx->task;                                              \
		struct file *file = ctx->file;                                                     \
                                                                                                   \
		if (!task || !file)                                                                \
			return 0;                                                                  \
		asm volatile("" : "+r"(task));                                                     \
		body(ctx->meta->seq, task, file);                                                  \
		return 0;                                                                          \
	}

/* The TCP tables of the network namespace of whoever opened the walk. */
#define TCP_TABLE(name)                                                                            \
	SEC("iter/tcp")                                                                            \
	int name(struct bpf_iter__tcp *ctx)                                                        \
	{                                                                                          \
		struct sock_common *skc = ctx->sk_common;                                          \
                                                                                                   \
		if (!skc)                                                                          \
			return 0;                                                                  \
		asm volatile("" : "+r"(skc));                                                      \
		held_by_tcp(ctx->meta->seq, skc);                                                  \
		return 0;                                                                          \
	}

#endif
