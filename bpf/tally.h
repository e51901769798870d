/* SPDX-License-Identifier: GPL-2.0 */
/*
 * --summary: TCP connections are counted here, by program, port and outcome, and no event of theirs
 * goes to user space, which takes the counts once an interval. Counted at its end: only then are
 * both processes, the outcome and the bytes known.
 */
#ifndef LOOPTRACE_TALLY_H
#define LOOPTRACE_TALLY_H

#include "emit.h"
#include "filter.h"

const volatile bool summarize;

/*
 * tally_key -> tally. Inserted and added to by whoever ends a connection, taken out by user space.
 * Full only where thousands of programs connect in one interval: LOST_TALLIES.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct tally_key);
	__type(value, struct tally);
} tally_by_key SEC(".maps");

/* A new entry is too large for the stack. 0 -> zeroes, never written. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct tally);
} empty_tally SEC(".maps");

/* The slot of a duration: four to each power of two, from 1 us to 16 s. */
static __always_inline u32 slot_of(u64 ns)
{
	u64 v = ns >> (TALLY_SHIFT - 2);
	u32 power = 0;

	if (v < 4)
		return 0;
	for (int i = 0; i < TALLY_POWERS && v >= 8; i++) {
		v >>= 1;
		power++;
	}
	u32 slot = power * 4 + (v & 3);

	return slot < TALLY_SLOTS ? slot : TALLY_SLOTS - 1;
}

/* What a process is called: the program's name, not a thread's. */
static __always_inline void program_of(char *name, struct task_struct *task)
{
	BPF_CORE_READ_STR_INTO((char(*)[THREAD_NAME])name, task, group_leader, comm);
}

struct ended {
	const struct process_id *client, *server;
	u64 started, handshake, c2s, s2c, now;
};

static __always_inline void add_tally(const struct tally_key *key, const struct ended *e)
{
	struct tally *t = bpf_map_lookup_elem(&tally_by_key, key);
	u32 zero = 0;

	if (!t) {
		struct tally *empty = bpf_map_lookup_elem(&empty_tally, &zero);

		if (empty)
			bpf_map_update_elem(&tally_by_key, key, empty, BPF_NOEXIST);
		t = bpf_map_lookup_elem(&tally_by_key, key);
		if (!t) {
			count_loss(LOST_TALLIES);
			return;
		}
	}
	__sync_fetch_and_add(&t->count, 1);
	/* Adding a constant 0 would be made an atomic OR, which kernels take since 5.12 (981f94c3e921). */
	if (e->c2s)
		__sync_fetch_and_add(&t->c2s_bytes, e->c2s);
	if (e->s2c)
		__sync_fetch_and_add(&t->s2c_bytes, e->s2c);
	__sync_fetch_and_add(&t->slots[slot_of(e->handshake)], 1);
	/* The rest may lose against another CPU that is as right. */
	if (e->handshake > t->longest)
		t->longest = e->handshake;
	if (!t->first || e->started < t->first)
		t->first = e->started;
	if (e->now > t->last)
		t->last = e->now;
	if (!t->client.tgid)
		t->client = *e->client;
	else if (t->client.tgid != e->client->tgid || t->client.start != e->client->start)
		t->many_clients = 1;
	if (!t->server.tgid)
		t->server = *e->server;
	else if (t->server.tgid != e->server->tgid || t->server.start != e->server->start)
		t->many_servers = 1;
}

#endif
