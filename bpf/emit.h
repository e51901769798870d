/* SPDX-License-Identifier: GPL-2.0 */
/* From a body to the ring. */
#ifndef LOOPTRACE_EMIT_H
#define LOOPTRACE_EMIT_H

#include "maps.h"

/*
 * 1 while the reader sleeps without a deadline: the next event wakes it. Else nothing does: a
 * wake-up costs ten times the record, and the reader looks by itself every few milliseconds.
 */
volatile u32 reader_idle;

static __always_inline void *reserve(u64 size, u16 kind, u64 now)
{
	struct event_header *h = bpf_ringbuf_reserve(&events, size, 0);

	if (!h) {
		count_loss(LOST_RING);
		return NULL;
	}
	/* task records are kilobytes and say how much of them is filled: only the head is zeroed */
	__builtin_memset(h, 0,
			 size > sizeof(struct in_use_event) ? sizeof(struct task_event) : size);
	h->time = now;
	h->kind = kind;
	return h;
}

static __always_inline void submit(void *record)
{
	u64 flags = BPF_RB_NO_WAKEUP;

	if (reader_idle) {
		reader_idle = 0;
		flags = BPF_RB_FORCE_WAKEUP;
	}
	bpf_ringbuf_submit(record, flags);
}

#endif
