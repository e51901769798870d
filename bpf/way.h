/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is in the way of a bind() or listen() that fails: looked up in the kernel's bind table by the
 * failed call itself. A moment later it may be gone.
 */
#ifndef LOOPTRACE_WAY_H
#define LOOPTRACE_WAY_H

#include "sock.h"

#define EADDRINUSE 98 /* asm-generic/errno.h */
#define CHAIN_MAX 64 /* ports of one slot of the bind table */
/* Sockets of a port that are looked at, the youngest first; fewer where the kernel has no open-coded loops. */
#define WAY_MAX 16384
#define WAY_MAX_UNROLLED 256

/* One end of a connection, then the other: in this order, unlike `tuple_of`. */
static __always_inline void end_key(struct tuple *key, const u8 *addr, u16 port, const u8 *peer,
				    u16 peer_port, u32 netns)
{
	__builtin_memset(key, 0, sizeof(*key));
	__builtin_memcpy(&key->addr[0], addr, 16);
	__builtin_memcpy(&key->addr[2], peer, 16);
	key->port[0] = port;
	key->port[1] = peer_port;
	key->netns = netns;
	key->proto = IPPROTO_TCP;
}

static __always_inline void ends_common(struct sock_common *skc, struct ends *e)
{
	e->family = BPF_CORE_READ(skc, skc_family);
	e->lport = BPF_CORE_READ(skc, skc_num);
	e->rport = bpf_ntohs(BPF_CORE_READ(skc, skc_dport));
	e->netns = BPF_CORE_READ(skc, skc_net.net, ns.inum);
	if (e->family == AF_INET) {
		set_v4(&e->local, BPF_CORE_READ(skc, skc_rcv_saddr));
		set_v4(&e->remote, BPF_CORE_READ(skc, skc_daddr));
		return;
	}
	BPF_CORE_READ_INTO(&e->local, skc, skc_v6_rcv_saddr);
	BPF_CORE_READ_INTO(&e->remote, skc, skc_v6_daddr);
}

static __always_inline bool is_client(const struct conn *c, const struct ends *e)
{
	const u64 *addr = (const u64 *)c->client_addr;

	return c->client_port == e->lport && addr[0] == e->local.d[0] && addr[1] == e->local.d[1];
}

/* What the hooks know of a connection, or of what is left of one. */
static __always_inline void fill_known(struct held_row *row, const struct ends *e)
{
	struct remains *left;
	struct tuple key;
	struct conn *c;

	if (row->state == TCP_TIME_WAIT) {
		end_key(&key, row->local, e->lport, row->remote, e->rport, e->netns);
		left = bpf_map_lookup_elem(&remains_by_end, &key);
		if (!left)
			return;
		row->since = left->since;
		row->known = left->owner;
		return;
	}
	tuple_of(e, IPPROTO_TCP, &key);
	c = bpf_map_lookup_elem(&conn_by_tuple, &key);
	if (!c)
		return;
	if (c->preexisting)
		row->flags |= FLAG_PREEXISTING;
	row->since = c->established;
	row->known = is_client(c, e) ? c->client : c->server;
}

static __always_inline void fill_held(struct held_row *row, struct sock_common *skc,
				      const struct ends *e, u16 proto)
{
	u64 key = (u64)skc;
	struct bound *b = bpf_map_lookup_elem(&bound_by_sock, &key);

	row->sock = key;
	row->id = b ? b->id : 0;
	row->netns = e->netns;
	row->proto = proto;
	copy_address(row->local, &e->local);
	copy_address(row->remote, &e->remote);
	row->lport = e->lport;
	row->rport = e->rport;
	row->state = BPF_CORE_READ(skc, skc_state);
	row->flags = sock_flags((struct sock *)skc);
	if (proto == IPPROTO_TCP && e->rport)
		fill_known(row, e);
}

/* As a person would name them: who listens before who is bound, a connection, what is left of one. */
enum way { WAY_LISTENER, WAY_BOUND, WAY_CONNECTION, WAY_TIME_WAIT, WAY_FREE };

/* Who asks for a port, as far as inet_csk_bind_conflict() looks at that, and what is found so far. */
struct contest {
	union address addr;
	u64 sk;
	u32 uid;
	u16 flags;
	u16 port;
	u64 found; /* the socket that is most in the way, 0: none */
	u64 until; /* when its TIME_WAIT ends */
	u64 address, owner; /* where the walk is: hlist_nodes of the bind table */
	u32 way; /* enum way */
};

/* 0 -> contest of the call that fails on this CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct contest);
} contest_by_zero SEC(".maps");

/* Two addresses of one port, as inet_rcv_saddr_equal() has it; `only`: of IPv6 alone. */
static __always_inline bool overlap(const union address *a, bool a_only, const union address *b,
				    bool b_only)
{
	if (a->d[0] == b->d[0] && a->d[1] == b->d[1])
		return true;
	if (is_v4(a) == is_v4(b))
		return is_any(a) || is_any(b);
	return is_v4(a) ? is_any(b) && !b_only : is_any(a) && !a_only;
}

static __always_inline enum way way_of(const struct contest *a, struct sock_common *skc)
{
	u16 flags = sock_flags((struct sock *)skc), both = flags & a->flags;
	u8 state = BPF_CORE_READ(skc, skc_state);
	enum way way = WAY_CONNECTION;
	struct ends e = {};

	if (state == TCP_LISTEN)
		way = WAY_LISTENER;
	else if (state == TCP_CLOSE)
		way = WAY_BOUND;
	else if (state == TCP_TIME_WAIT &&
		 BPF_CORE_READ((struct inet_timewait_sock *)skc, tw_substate) == TCP_TIME_WAIT)
		way = WAY_TIME_WAIT;
	if (both & FLAG_REUSE && state != TCP_LISTEN)
		return WAY_FREE;
	if (both & FLAG_REUSEPORT &&
	    (state == TCP_TIME_WAIT || BPF_CORE_READ((struct sock *)skc, sk_uid.val) == a->uid))
		return WAY_FREE;
	ends_common(skc, &e);
	if (!overlap(&a->addr, a->flags & FLAG_V6ONLY, &e.local, flags & FLAG_V6ONLY))
		return WAY_FREE;
	return way;
}

/* The buckets of a port. */
static __always_inline struct inet_bind_bucket *bucket_of(struct sock *sk, u16 port)
{
	struct net *net = BPF_CORE_READ(sk, __sk_common.skc_net.net);
	struct inet_hashinfo *table = tcp_table(sk);
	struct inet_bind_hashbucket *slot = BPF_CORE_READ(table, bhash);
	u32 hash = (port + BPF_CORE_READ(net, hash_mix)) & (BPF_CORE_READ(table, bhash_size) - 1);
	struct hlist_node *node;

	if (!slot)
		return NULL;
	slot = (void *)slot + hash * bpf_core_type_size(struct inet_bind_hashbucket);
	node = BPF_CORE_READ(slot, chain.first);
	for (int i = 0; i < CHAIN_MAX && node; i++) {
		struct inet_bind_bucket *tb = ENTRY(node, struct inet_bind_bucket, node);

		if (BPF_CORE_READ(tb, port) == port && BPF_CORE_READ(tb, ib_net.net) == net)
			return tb;
		node = next_node(node);
	}
	return NULL;
}

/* Weighs one socket of the port; of several connections the youngest stays. */
static __always_inline void weigh(struct contest *c, struct sock_common *skc)
{
	u64 until = 0;
	enum way way;

	if ((u64)skc == c->sk)
		return;
	way = way_of(c, skc);
	if (way == WAY_TIME_WAIT) /* the one that lasts longest */
		until = BPF_CORE_READ((struct inet_timewait_sock *)skc, tw_timer.expires);
	if (way < c->way || (way == WAY_TIME_WAIT && way == c->way && until > c->until)) {
		c->way = way;
		c->found = (u64)skc;
		c->until = until;
	}
}

/*
 * One step of the walk over a port's sockets; true: it is over. All state is in the map, where
 * verifiers do not follow it: to them each turn of the loop is the same.
 */
static __always_inline bool walk_step(void)
{
	u32 zero = 0;
	struct contest *c = bpf_map_lookup_elem(&contest_by_zero, &zero);
	struct hlist_node *address, *owner;

	if (!c)
		return true;
	owner = (void *)c->owner;
	if (owner) {
		weigh(c, ENTRY(owner, struct sock_common, skc_bind_node));
		c->owner = (u64)next_node(owner);
		return c->way == WAY_LISTENER; /* nothing is more */
	}
	address = (void *)c->address;
	if (!address)
		return true;
	address = next_node(address);
	c->address = (u64)address;
	if (address)
		c->owner = (u64)first_of_address(address);
	return !address;
}

/* Not static: verified once, by itself, and not for each turn of a loop. */
__noinline int walk_step_apart(void)
{
	return walk_step();
}

static __always_inline void find_in_way(struct contest *c)
{
	struct inet_bind_bucket *tb = bucket_of((struct sock *)c->sk, c->port);
	struct hlist_node *address;
	struct bpf_iter_num turns;

	if (!tb)
		return;
	address = first_address(tb);
	c->address = (u64)address;
	c->owner = (u64)(address ? first_of_address(address) : first_owner(tb));
	if (bpf_iter_num_new) {
		bpf_iter_num_new(&turns, 0, WAY_MAX);
		while (bpf_iter_num_next(&turns))
			if (walk_step())
				break;
		bpf_iter_num_destroy(&turns);
		return;
	}
	for (int i = 0; i < WAY_MAX_UNROLLED; i++)
		if (walk_step_apart())
			break;
}

/* Fills a row with what is in the way of a socket that wants `want`; sock 0: nothing is any more. */
static __always_inline void fill_in_way(struct held_row *row, struct sock *sk,
					const struct ends *want, u32 uid)
{
	struct inet_timewait_sock *tw;
	struct sock_common *skc;
	struct ends e = {};
	struct contest *c;
	u32 zero = 0;

	c = bpf_map_lookup_elem(&contest_by_zero, &zero);
	if (!c)
		return;
	c->addr = want->local;
	c->sk = (u64)sk;
	c->uid = uid;
	c->flags = sock_flags(sk);
	c->port = want->lport;
	c->found = 0;
	c->until = 0;
	c->way = WAY_FREE;
	find_in_way(c);
	skc = (void *)c->found;
	tw = (void *)skc;
	if (!skc)
		return;
	ends_common(skc, &e);
	fill_held(row, skc, &e, IPPROTO_TCP);
	if (row->state == TCP_TIME_WAIT) {
		row->state = BPF_CORE_READ(tw, tw_substate);
		row->expires = BPF_CORE_READ(tw, tw_timer.expires);
		row->jiffies = bpf_jiffies64();
		row->flags |= FLAG_ORPHAN;
	} else if (!BPF_CORE_READ((struct sock *)skc, sk_socket)) {
		row->flags |= FLAG_ORPHAN;
	}
}

#endif
