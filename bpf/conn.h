/* SPDX-License-Identifier: GPL-2.0 */
/*
 * TCP connections, folded: the six and more state changes of the two sockets become one connect,
 * one accept and one close record. State changes say what happened to a socket and never who did
 * it: on loopback the current task is as often as not the other end's. Owners come from the
 * connect and accept calls alone.
 */
#ifndef LOOPTRACE_CONN_H
#define LOOPTRACE_CONN_H

#include "dial.h"

/* looptrace's own connections are never recorded. */
static __always_inline bool ours(const struct conn *c)
{
	return self_tgid && (c->client.tgid == self_tgid || c->server.tgid == self_tgid);
}

static __always_inline void fill_conn(struct conn_event *ev, u16 kind, const struct conn *c,
				      const struct tuple *t)
{
	ev->h.netns = t->netns;
	ev->h.flags = (c->self ? FLAG_SELF : 0) | (c->reset ? FLAG_RESET : 0) |
		      (c->accepted ? FLAG_ACCEPTED : 0) | (c->ipv6 ? FLAG_IPV6 : 0) |
		      (c->preexisting ? FLAG_PREEXISTING : 0);
	ev->id = c->id;
	ev->started = kind == KIND_ACCEPT ? c->established : c->started;
	ev->c2s_bytes = c->c2s_bytes;
	ev->s2c_bytes = c->s2c_bytes;
	ev->client = c->client;
	ev->server = c->server;
	ev->last = c->last;
	__builtin_memcpy(ev->client_addr, c->client_addr, 16);
	__builtin_memcpy(ev->server_addr, c->server_addr, 16);
	ev->client_port = c->client_port;
	ev->server_port = c->server_port;
	ev->proto = t->proto;
	ev->closer = c->closer;
}

/* Names the ends of a connection as its client's (or, if `server`, its server's) socket sees them. */
static __always_inline void put_ends(struct conn *c, const struct ends *e, bool server)
{
	copy_address(c->client_addr, server ? &e->remote : &e->local);
	copy_address(c->server_addr, server ? &e->local : &e->remote);
	c->client_port = server ? e->rport : e->lport;
	c->server_port = server ? e->lport : e->rport;
}

/*
 * SYN_SENT -> ESTABLISHED (or SYN_RECV -> ESTABLISHED of a socket that dialled: self-connect,
 * simultaneous open). Runs wherever the SYN-ACK was processed; the owner is the dialler's.
 */
static __always_inline void client_established(struct tcp_sock *tp, const struct ends *e,
					       struct dial *d)
{
	u64 now = bpf_ktime_get_boot_ns();
	u64 sk = (u64)tp;
	struct conn *known;
	struct conn_event *ev;
	struct conn c = {};
	struct bound *b;
	struct tuple t;

	tuple_of(e, IPPROTO_TCP, &t);
	known = bpf_map_lookup_elem(&conn_by_tuple, &t);
	if (known && known->client_sk == sk && !d)
		return; /* told before: see `seen_by_first` */
	if (known && known->client_sk && known->client_sk != sk && !known->server_sk) {
		/* Simultaneous open: the other end dialled too and was first. */
		known->server_sk = sk;
		known->accepted = 1;
		if (d)
			id_of(&known->server, &d->owner);
		return;
	}
	/* An accept may come first with TCP Fast Open: keep what it knew. */
	if (known && !known->client_sk)
		c = *known;
	else
		c.id = new_id(now);
	c.client_sk = sk;
	c.established = now;
	c.ipv6 = e->family == AF_INET6;
	put_ends(&c, e, false);
	c.client_verdict.match = ALL_BITS;
	if (!c.server_verdict.match)
		c.server_verdict = judge_port(e->netns, e->rport, IPPROTO_TCP);
	if (d) {
		c.started = d->started;
		id_of(&c.client, &d->owner);
		c.client_verdict = d->verdict;
		c.preexisting = d->preexisting;
		if (summarize)
			__builtin_memcpy(c.client_program, d->program, THREAD_NAME);
	}
	if (e->lport == e->rport && e->local.d[0] == e->remote.d[0] &&
	    e->local.d[1] == e->remote.d[1]) {
		c.self = 1;
		c.server_sk = sk;
		c.server = c.client;
		c.accepted = 1;
	}
	c.told |= !summarize && !ours(&c) &&
		  wanted(KIND_CONNECT, &t, false, c.client_verdict, c.server_verdict);
	if (bpf_map_update_elem(&conn_by_tuple, &t, &c, BPF_ANY))
		count_loss(LOST_CONNS);
	if (!c.told)
		return;
	ev = reserve(sizeof(*ev), KIND_CONNECT, now);
	if (!ev)
		return;
	fill_conn(ev, KIND_CONNECT, &c, &t);
	b = bpf_map_lookup_elem(&bound_by_sock, &sk);
	if (b)
		ev->client_sock = b->id;
	if (!(BPF_CORE_READ_BITFIELD(&tp->inet_conn.icsk_inet.sk, sk_userlocks) &
	      SOCK_BINDPORT_LOCK))
		ev->h.flags |= FLAG_EPHEMERAL;
	ev->retransmits = tp->total_retrans;
	if (d) {
		put_thread(ev->thread, &d->owner);
		put_queue(ev, d);
	}
	submit(ev);
}

/* SYN_RECV -> ESTABLISHED of a child: in the accept queue now. Runs in whatever task: no owner. */
static __always_inline void server_established(struct tcp_sock *tp, const struct ends *e)
{
	u64 sk = (u64)tp;
	struct conn *known;
	struct tuple t;

	tuple_of(e, IPPROTO_TCP, &t);
	known = bpf_map_lookup_elem(&conn_by_tuple, &t);
	if (known && known->client_sk != sk) {
		known->server_sk = sk;
		if (!known->established)
			known->established = bpf_ktime_get_boot_ns();
		return;
	}
	if (known || !(is_loopback(&e->local) || is_loopback(&e->remote)))
		return;
	struct conn c = {};

	c.established = bpf_ktime_get_boot_ns();
	c.id = new_id(c.established);
	c.server_sk = sk;
	c.ipv6 = e->family == AF_INET6;
	put_ends(&c, e, true);
	c.client_verdict.match = ALL_BITS;
	c.server_verdict.match = ALL_BITS;
	if (bpf_map_update_elem(&conn_by_tuple, &t, &c, BPF_NOEXIST))
		count_loss(LOST_CONNS);
}

enum end { END_NONE, END_CLIENT, END_SERVER };

/* Which end of the connection a socket is; takes the place of one that was not seen so far. */
static __always_inline enum end end_of(struct conn *c, u64 sk)
{
	if (c->client_sk == sk)
		return END_CLIENT;
	if (c->server_sk == sk)
		return END_SERVER;
	if (c->client_sk && !c->server_sk) {
		c->server_sk = sk;
		return END_SERVER;
	}
	return END_NONE;
}

/* User space is not told that this connection ended: what its TIME_WAIT is of is kept here. */
static __always_inline void note_remains(const struct conn *c, u32 netns, u64 now)
{
	struct remains left = { .since = now };
	struct tuple key;

	if (c->reset || !c->closer)
		return;
	if (c->closer == CLOSER_CLIENT) {
		left.owner = c->client;
		end_key(&key, c->client_addr, c->client_port, c->server_addr, c->server_port,
			netns);
	} else {
		left.owner = c->server;
		end_key(&key, c->server_addr, c->server_port, c->client_addr, c->client_port,
			netns);
	}
	if (c->last.tgid)
		left.owner = c->last;
	bpf_map_update_elem(&remains_by_end, &key, &left, BPF_ANY);
}

/* Both ends may come here at once: who deletes the entry counts the connection. */
static __always_inline void tally_conn(struct tuple *t, struct conn *c, u64 now)
{
	struct tally_key key = { .port = c->server_port };
	struct process_id client = c->client, server = c->server;
	struct ended end = {
		.client = &client,
		.server = &server,
		.started = c->started ? c->started : c->established,
		.handshake = c->started ? c->established - c->started : 0,
		.c2s = c->c2s_bytes,
		.s2c = c->s2c_bytes,
		.now = now,
	};

	__builtin_memcpy(key.client, c->client_program, THREAD_NAME);
	__builtin_memcpy(key.server, c->server_program, THREAD_NAME);
	if (!bpf_map_delete_elem(&conn_by_tuple, t))
		add_tally(&key, &end);
}

/*
 * Ends the connection once both sockets have left it. A child that died in the accept queue can
 * still be accepted, so it counts as left only when it was accepted or is destroyed.
 */
static __always_inline void finish_if_over(struct tuple *t, struct conn *c, u64 now)
{
	struct conn_event *ev;

	if (!c->client_left && c->client_sk)
		return;
	if (c->server_sk && !(c->server_left && (c->accepted || c->server_gone)))
		return;
	/* Of what user space knows to have begun it learns the end, if it is told of ends at all. */
	bool owed = (c->told || c->preexisting) && !summarize && want_kinds & 1U << KIND_CLOSE;
	bool asked = wanted(KIND_CLOSE, t, false, c->client_verdict, c->server_verdict);

	if (ours(c) || !(asked || owed)) {
		note_remains(c, t->netns, now);
		bpf_map_delete_elem(&conn_by_tuple, t);
		return;
	}
	if (summarize) {
		note_remains(c, t->netns, now);
		tally_conn(t, c, now);
		return;
	}
	/* Checked once and at once: verifiers before 6.2 forget that a reservation is not NULL. */
	ev = reserve(sizeof(*ev), KIND_CLOSE, now);
	if (!ev) {
		bpf_map_delete_elem(&conn_by_tuple, t);
		return;
	}
	fill_conn(ev, KIND_CLOSE, c, t);
	/* Both ends may come here at once: who deletes the entry writes the record. */
	if (bpf_map_delete_elem(&conn_by_tuple, t))
		bpf_ringbuf_discard(ev, BPF_RB_NO_WAKEUP);
	else
		submit(ev);
}

/*
 * close() or shutdown() sends a FIN, always in the context of the process that calls it. It may be another than
 * who dialled or accepted: a child, or whom the descriptor was passed to. What is left is that one's.
 */
static __always_inline void note_closer(struct conn *c, const struct process_id *end)
{
	struct owner o;

	if (!pidns && bpf_get_current_pid_tgid() >> 32 == end->tgid)
		return;
	current_owner(&o);
	if (o.tgid && o.tgid != end->tgid)
		id_of(&c->last, &o);
}

/* ESTABLISHED -> FIN_WAIT1: this end's FIN is the first. */
static __always_inline void conn_closing(struct tcp_sock *tp, const struct ends *e)
{
	struct conn *c;
	struct tuple t;

	tuple_of(e, IPPROTO_TCP, &t);
	c = bpf_map_lookup_elem(&conn_by_tuple, &t);
	if (!c || c->closer)
		return;
	switch (end_of(c, (u64)tp)) {
	case END_CLIENT:
		c->closer = CLOSER_CLIENT;
		note_closer(c, &c->client);
		break;
	case END_SERVER:
		c->closer = CLOSER_SERVER;
		note_closer(c, &c->server);
		break;
	default:
		break;
	}
}

/* Only the destruction of this socket will tell whether the connection is over. */
static __always_inline void await_destruction(struct conn *c, const struct tuple *t, u64 sk)
{
	c->dying = 1;
	if (bpf_map_update_elem(&dying_by_sock, &sk, t, BPF_ANY))
		count_loss(LOST_CONNS);
}

/* any other state -> CLOSE of a socket that was connected. */
static __always_inline void conn_left(struct tcp_sock *tp, const struct ends *e, int old)
{
	int error = tp->inet_conn.icsk_inet.sk.sk_err;
	u64 now = bpf_ktime_get_boot_ns();
	struct conn *c;
	struct tuple t;
	enum end end;

	tuple_of(e, IPPROTO_TCP, &t);
	c = bpf_map_lookup_elem(&conn_by_tuple, &t);
	if (!c)
		return;
	end = end_of(c, (u64)tp);
	if (end == END_NONE)
		return;
	/* Payload only: no SYN, no FIN, and nothing twice. tcp_disconnect() zeroes them after this. */
	u64 bytes = tp->bytes_sent - tp->bytes_retrans;
	bool aborted = !error && (old == TCP_ESTABLISHED || old == TCP_CLOSE_WAIT);

	if (error == ECONNRESET || (error == EPIPE && old == TCP_CLOSE_WAIT) || aborted)
		c->reset = 1;
	if (end == END_CLIENT) {
		c->c2s_bytes = bytes;
		if (!c->closer && aborted)
			c->closer = CLOSER_CLIENT;
		c->client_left = 1;
		if (c->self)
			c->server_left = 1;
	} else {
		c->s2c_bytes = bytes;
		if (!c->closer && aborted)
			c->closer = CLOSER_SERVER;
		/* Reset in the queue, it may yet be accepted; dropped by its closing listener, not. */
		if (!c->accepted && !error)
			c->server_gone = 1;
		else if (!c->accepted)
			await_destruction(c, &t, (u64)tp);
		c->server_left = 1;
	}
	/* A full barrier where atomics are: the other CPU sees our byte, or we see its. */
	__sync_fetch_and_add(&c->barrier, 1);
	if (end == END_CLIENT && !c->server_sk) {
		await_destruction(c, &t, (u64)tp); /* its child may be under way */
		return;
	}
	finish_if_over(&t, c, now);
}

/* Half of a connection's state changes say nothing that another does not. */
static __always_inline bool state_matters(int old, int new)
{
	switch (new) {
	case TCP_ESTABLISHED:
	case TCP_SYN_SENT:
	case TCP_CLOSE:
	case TCP_LISTEN:
		return true;
	default:
		return new == TCP_FIN_WAIT1 &&old == TCP_ESTABLISHED;
	}
}

/* The one state hook, the same in every form: tp_btf/inet_sock_set_state. `second`: its twin. */
static __always_inline void state_changed(struct sock *sk, int old, int new, bool second)
{
	struct tcp_sock *tp;
	struct dial *d;
	struct ends e;
	u64 key;

	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return; /* an MPTCP socket, whose subflow comes here too */
	if (new == TCP_LISTEN) {
		listen_entered((u64)tp);
		return;
	}
	ends_direct(&tp->inet_conn.icsk_inet, &e);
	if (old != TCP_LISTEN && !addressed(&e))
		return;
	e.netns = tp->inet_conn.icsk_inet.sk.__sk_common.skc_net.net->ns.inum;
	switch (new) {
	case TCP_SYN_SENT:
		dial_start(tp, &e);
		break;
	case TCP_ESTABLISHED:
		key = (u64)tp;
		d = bpf_map_lookup_elem(&dial_by_sock, &key);
		if (!d && old == TCP_SYN_RECV) {
			server_established(tp, &e);
			break;
		}
		client_established(tp, &e, d);
		if (d)
			bpf_map_delete_elem(&dial_by_sock, &key);
		break;
	case TCP_FIN_WAIT1:
		conn_closing(tp, &e);
		break;
	default:
		if (old == TCP_LISTEN)
			unlistened(tp, &e);
		else if (old == TCP_SYN_SENT)
			dial_ended(tp, &e, second);
		else
			conn_left(tp, &e, old);
	}
}

/* tcp_destroy_sock: the last moment of any TCP socket. Nobody accepts it after this. */
static __always_inline void conn_destroyed(struct tcp_sock *tp, const struct ends *e)
{
	u64 sk = (u64)tp;
	struct tuple *wiped;
	struct conn *c;
	struct tuple t;

	if (e->rport) {
		if (!addressed(e))
			return;
		tuple_of(e, IPPROTO_TCP, &t);
	} else {
		wiped = bpf_map_lookup_elem(&dying_by_sock, &sk);
		if (!wiped)
			return;
		t = *wiped;
	}
	c = bpf_map_lookup_elem(&conn_by_tuple, &t);
	if (!c)
		return;
	if (c->dying)
		bpf_map_delete_elem(&dying_by_sock, &sk);
	switch (end_of(c, sk)) {
	case END_CLIENT:
		c->client_left = 1;
		break;
	case END_SERVER:
		c->server_left = 1;
		c->server_gone = 1;
		break;
	default:
		return;
	}
	finish_if_over(&t, c, bpf_ktime_get_boot_ns());
}

static __always_inline void tell_accept(struct conn *c, const struct tuple *t,
					const struct owner *o, u64 now)
{
	struct conn_event *ev;

	if (summarize || ours(c) ||
	    !wanted(KIND_ACCEPT, t, false, c->client_verdict, c->server_verdict))
		return;
	c->told = 1;
	ev = reserve(sizeof(*ev), KIND_ACCEPT, now);
	if (!ev)
		return;
	fill_conn(ev, KIND_ACCEPT, c, t);
	put_thread(ev->thread, o);
	submit(ev);
}

/* A process takes a connection out of the accept queue; the current task is the acceptor. */
static __always_inline void accepted(struct sock *held)
{
	struct sock *sk = inner_sock(held);
	struct owner o;
	struct conn *c;
	struct ends e;
	struct tuple t;

	if (!sk || inet_proto(sk) != IPPROTO_TCP)
		return;
	ends_probed((struct inet_sock *)sk, &e);
	e.netns = 0;
	if (!addressed(&e))
		return;
	e.netns = sock_netns(sk);
	tuple_of(&e, IPPROTO_TCP, &t);
	c = bpf_map_lookup_elem(&conn_by_tuple, &t);
	if (!c)
		return; /* the table was full (counted) or, with --local, the client is elsewhere */
	u64 now = bpf_ktime_get_boot_ns();

	if (c->accepted)
		return; /* io_uring's fixed descriptors name no socket: this is not a new one */
	if (!c->server_sk)
		c->server_sk = (u64)sk;
	current_owner(&o);
	id_of(&c->server, &o);
	c->server_verdict = judge_current(&o);
	if (summarize)
		program_of(c->server_program, (void *)bpf_get_current_task());
	c->accepted = 1;
	if (c->dying)
		bpf_map_delete_elem(&dying_by_sock, &c->server_sk);
	tell_accept(c, &t, &o, now);
	/* accept() may hand out a socket that both ends have left already. */
	if (c->server_left)
		finish_if_over(&t, c, now);
}

#endif
