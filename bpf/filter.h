/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The user's filters, for what is frequent: connections and datagrams. They let through more than
 * asked for wherever the kernel side is not sure (user space decides on the finished record), and
 * never less. What a run does not filter by is constant zero, and the verifier removes its test.
 */
#ifndef LOOPTRACE_FILTER_H
#define LOOPTRACE_FILTER_H

#include "sock.h"
#include "task.h"

#define FILTER_VALUES 8 /* values a filter may have here; user space filters alone by more */

const volatile u32 self_tgid; /* looptrace itself */
const volatile bool any_local; /* --local: every address of this host, not just loopback's */
const volatile u32 want_kinds = ~0U; /* bit per enum kind */
const volatile u32 want_tcp = 1;
const volatile u32 want_udp = 1;
const volatile bool only_failed;

/* Either list is empty, or at most FILTER_VALUES long. */
const volatile u32 n_ports, n_not_ports;
const volatile u16 ports[FILTER_VALUES], not_ports[FILTER_VALUES];
const volatile u32 n_netns, n_not_netns;
const volatile u32 netns_list[FILTER_VALUES], not_netns_list[FILTER_VALUES];

enum process_bit { BY_PID = 1, BY_COMM = 2, BY_USER = 4, BY_TREE = 8, BY_CONTAINER = 16 };
enum cgroup_verdict { CGROUP_MATCH = 1, CGROUP_EXCLUDE = 2 };
#define ALL_BITS 0xff

const volatile u8 process_bits; /* which of them the user asks for */
const volatile u8 exclude_bits; /* which of them have values to exclude */
const volatile u32 n_pids, n_not_pids;
const volatile u32 pids[FILTER_VALUES], not_pids[FILTER_VALUES];
const volatile u32 n_users, n_not_users;
const volatile u32 users[FILTER_VALUES], not_users[FILTER_VALUES];
const volatile u32 n_comms, n_not_comms;
const volatile char comms[FILTER_VALUES][THREAD_NAME], not_comms[FILTER_VALUES][THREAD_NAME];

#define LISTED(list, n, value)                                                                     \
	({                                                                                         \
		bool found = false;                                                                \
		for (u32 i = 0; i < FILTER_VALUES && i < (n); i++)                                 \
			found |= (list)[i] == (value);                                             \
		found;                                                                             \
	})

static __always_inline bool comm_is(const volatile char *want, const char *comm)
{
	const volatile u64 *w = (const volatile u64 *)want;
	const u64 *c = (const u64 *)comm;

	return w[0] == c[0] && w[1] == c[1];
}

/* Container names are read off paths by user space; what it has not seen yet passes. */
static __always_inline void judge_cgroup(struct verdict *v)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	u64 id = BPF_CORE_READ(task_kn(task), id);
	u8 *known = bpf_map_lookup_elem(&verdict_by_cgroup, &id);

	if (!known || *known & CGROUP_MATCH)
		v->match |= BY_CONTAINER;
	if (known && *known & CGROUP_EXCLUDE)
		v->exclude |= BY_CONTAINER;
}

/* The lists are long when unrolled: one copy a program (noinline), and none where nothing filters. */
static __noinline u16 judge_current_by_lists(const struct owner *o)
{
	struct verdict v = {};

	if (LISTED(pids, n_pids, o->tgid))
		v.match |= BY_PID;
	if (LISTED(not_pids, n_not_pids, o->tgid))
		v.exclude |= BY_PID;
	if (LISTED(users, n_users, o->uid))
		v.match |= BY_USER;
	if (LISTED(not_users, n_not_users, o->uid))
		v.exclude |= BY_USER;
	if (n_comms || n_not_comms) {
		struct task_struct *task = (void *)bpf_get_current_task();
		char comm[THREAD_NAME] __attribute__((aligned(8))) = {};

		BPF_CORE_READ_STR_INTO(&comm, task, group_leader, comm);
		for (u32 i = 0; i < FILTER_VALUES && i < n_comms; i++)
			if (comm_is(comms[i], comm))
				v.match |= BY_COMM;
		for (u32 i = 0; i < FILTER_VALUES && i < n_not_comms; i++)
			if (comm_is(not_comms[i], comm))
				v.exclude |= BY_COMM;
	}
	if (process_bits & BY_TREE && bpf_map_lookup_elem(&tree, &o->tgid))
		v.match |= BY_TREE;
	if ((process_bits | exclude_bits) & BY_CONTAINER)
		judge_cgroup(&v);
	return v.match | v.exclude << 8;
}

/* Judges the current task, whose owner is `o`. */
static __always_inline struct verdict judge_current(const struct owner *o)
{
	struct verdict unknown = { ALL_BITS, 0 };

	if ((!process_bits && !exclude_bits) || !o->tgid)
		return unknown;
	u16 both = judge_current_by_lists(o);
	struct verdict v = { both & 0xff, both >> 8 };

	return v;
}

static __always_inline bool addressed(const struct ends *e)
{
	return any_local || is_loopback(&e->remote) || is_loopback(&e->local);
}

static __noinline bool listed(const struct tuple *t)
{
	if (n_ports && !LISTED(ports, n_ports, t->port[0]) && !LISTED(ports, n_ports, t->port[1]))
		return false;
	if (LISTED(not_ports, n_not_ports, t->port[0]) ||
	    LISTED(not_ports, n_not_ports, t->port[1]))
		return false;
	if (n_netns && !LISTED(netns_list, n_netns, t->netns))
		return false;
	return !LISTED(not_netns_list, n_not_netns, t->netns);
}

/* Whether a record of this kind between these ends may be asked for. */
static __always_inline bool wanted(u32 kind, const struct tuple *t, bool failed, struct verdict a,
				   struct verdict b)
{
	if (!(want_kinds & (1U << kind)))
		return false;
	if (only_failed && !failed)
		return false;
	if (t->proto == IPPROTO_TCP ? !want_tcp : !want_udp)
		return false;
	if ((n_ports || n_not_ports || n_netns || n_not_netns) && !listed(t))
		return false;
	if (process_bits & ~(a.match | b.match))
		return false;
	return !(exclude_bits & (a.exclude | b.exclude));
}

#endif
