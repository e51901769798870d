/* SPDX-License-Identifier: GPL-2.0 */
/*
 * UDP flows: a pair of sockets that exchange datagrams. A flow begins with its first datagram,
 * whose sender is the client; replies belong to it. It ends when either socket does.
 */
#ifndef LOOPTRACE_UDP_H
#define LOOPTRACE_UDP_H

#include "conn.h"
#include "port.h"

#define ECONNREFUSED 111

/* Whether this form sees that a datagram with an address was sent, or only that it is about to be. */
const volatile bool sends_end;

/* Sockets that are bound to a wildcard send to loopback from its first address. */
static __always_inline void default_source(struct ends *e)
{
	if (!is_any(&e->local))
		return;
	e->local = e->remote;
	if (is_v4(&e->remote) && is_loopback(&e->remote))
		e->local.w[3] = bpf_htonl(0x7f000001);
}

static __always_inline void fill_flow(struct conn_event *ev, const struct flow *f, u32 netns,
				      u16 family)
{
	ev->h.netns = netns;
	ev->h.flags = family == AF_INET6 ? FLAG_IPV6 : 0;
	ev->id = f->id;
	ev->client = f->client;
	ev->client_sock = f->client_sock;
	ev->server_sock = f->server_sock;
	__builtin_memcpy(ev->client_addr, f->client_addr, 16);
	__builtin_memcpy(ev->server_addr, f->server_addr, 16);
	ev->client_port = f->client_port;
	ev->server_port = f->server_port;
	ev->proto = IPPROTO_UDP;
}

/*
 * A flow has begun. User space makes three records of this event: the connect, its refusal (so it passes
 * for a failure), and the close.
 */
static __always_inline void tell_flow(const struct flow *f, const struct tuple *t, u16 family,
				      u64 began, const struct owner *o)
{
	struct verdict server = judge_port(t->netns, f->server_port, IPPROTO_UDP);
	struct conn_event *ev;

	if (!wanted(KIND_CONNECT, t, true, f->verdict, server) &&
	    !wanted(KIND_CLOSE, t, true, f->verdict, server))
		return;
	ev = reserve(sizeof(*ev), KIND_CONNECT, began);
	if (!ev)
		return;
	fill_flow(ev, f, t->netns, family);
	ev->started = began;
	put_thread(ev->thread, o);
	submit(ev);
}

/* As for its first datagram: a flow that was refused has no close record either. */
static __always_inline void tell_refused(const struct flow *f, const struct tuple *t, u16 family)
{
	struct verdict server = judge_port(t->netns, f->server_port, IPPROTO_UDP);
	struct conn_event *ev;

	if (!wanted(KIND_CONNECT, t, true, f->verdict, server) &&
	    !wanted(KIND_CLOSE, t, true, f->verdict, server))
		return;
	ev = reserve(sizeof(*ev), KIND_REFUSED, bpf_ktime_get_boot_ns());
	if (!ev)
		return;
	fill_flow(ev, f, t->netns, family);
	ev->error = ECONNREFUSED;
	submit(ev);
}

/* What this thread sends is the first datagram of a flow; datagram_ends() tells whether it was sent. */
static __always_inline void sending(const struct tuple *t, u16 family, u64 now)
{
	struct sending s = { .tuple = *t, .began = now, .family = family };
	u64 thread = bpf_get_current_pid_tgid();

	if (bpf_map_update_elem(&sending_by_thread, &thread, &s, BPF_ANY))
		count_loss(LOST_CALLS);
}

/* Whether a socket takes what comes from `from`: one that is connected has its peer alone. */
static __always_inline bool takes(u64 sk, const struct ends *from)
{
	struct ends e;

	ends_probed((struct inet_sock *)sk, &e);
	return !e.rport || (e.rport == from->lport && e.remote.d[0] == from->local.d[0] &&
			    e.remote.d[1] == from->local.d[1]);
}

/* Whether a datagram from the socket `id` to `peer` is of a flow that is told; peer 0: nobody can say whom it meets. */
static __always_inline bool is_told(struct flow *f, u64 id, u64 peer, bool any_peer)
{
	if (f->client_sock == id && (any_peer || f->server_sock == peer))
		return true;
	if (f->server_sock == id && (any_peer || f->client_sock == peer))
		return true;
	if (f->server_sock || (!any_peer && f->client_sock != peer))
		return false;
	f->server_sock = id; /* which of them it met: this one answers */
	return true;
}

/*
 * A process sends a datagram on `sk`, to req->addr where it named one, else to the socket's peer.
 * The kernel has already picked a port for a socket that had none (inet_send_prepare). `sent`: it did send it,
 * as far as this hook form can tell.
 */
static __always_inline void datagram(struct sock *sk, const struct request *req, bool sent)
{
	struct request none = {};
	struct port_key peer_key = { .proto = IPPROTO_UDP };
	struct port_owner *peer;
	struct bound *b;
	struct flow *known;
	struct flow f = {};
	struct owner o;
	struct ends e;
	struct tuple t;
	u64 key = (u64)sk, id, peer_id = 0;
	bool past_peer;

	ends_probed((struct inet_sock *)sk, &e);
	past_peer = req->known && e.rport;
	if (req->known) {
		e.remote = req->addr;
		e.rport = req->port;
	}
	if (!e.rport)
		return;
	if (is_any(&e.remote))
		set_loopback(&e.remote);
	if (!addressed(&e))
		return;
	e.netns = sock_netns(sk);
	current_owner(&o);
	if (self_tgid && o.tgid == self_tgid)
		return;
	b = bpf_map_lookup_elem(&bound_by_sock, &key);
	id = b && b->port ? b->id : note_bound(sk, &e, IPPROTO_UDP, &none, &o);
	default_source(&e);
	peer_key.netns = e.netns;
	peer_key.port = e.rport;
	peer = bpf_map_lookup_elem(&owner_by_port, &peer_key);
	if (peer && peer->sockets == 1)
		peer_id =
			peer->sock; /* of several, user space finds the one that fits, if one does */
	tuple_of(&e, IPPROTO_UDP, &t);
	if (past_peer &&
	    !sent) /* what sees its end would think that it went to the socket's peer */
		sending(&t, e.family, bpf_ktime_get_boot_ns());
	known = bpf_map_lookup_elem(&flow_by_tuple, &t);
	if (known) {
		/* With several sockets on the port, nobody can say which one this datagram meets. */
		bool any_peer = peer && peer->sockets > 1;

		if (known->pending && known->client_sock == id) {
			sending(&t, e.family, bpf_ktime_get_boot_ns()); /* its end was missed */
			return;
		}
		if (is_told(known, id, peer_id, any_peer))
			return;
	}
	if (peer_id && !takes(peer->sk, &e)) {
		peer_id = 0;
		if (known && is_told(known, id, 0, false))
			return;
	}
	u64 now = bpf_ktime_get_boot_ns();

	f.id = new_id(now);
	f.client_sock = id;
	f.server_sock = peer_id;
	id_of(&f.client, &o);
	copy_address(f.client_addr, &e.local);
	copy_address(f.server_addr, &e.remote);
	f.client_port = e.lport;
	f.server_port = e.rport;
	f.verdict = judge_current(&o);
	f.pending = !sent;
	if (bpf_map_update_elem(&flow_by_tuple, &t, &f, BPF_ANY))
		count_loss(LOST_FLOWS);
	if (sent)
		tell_flow(&f, &t, e.family, now, &o);
	else
		sending(&t, e.family, now);
}

/*
 * The kernel has taken the datagram that this thread was sending, or refused it: an address that cannot
 * be had, an error of an earlier one. A flow whose first datagram was never sent has not begun. False: this
 * one had no mark.
 */
static __always_inline bool datagram_ends(s64 ret)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct sending *mark = bpf_map_lookup_elem(&sending_by_thread, &thread);
	struct sending s;
	struct owner o;
	struct flow *f;

	if (!mark)
		return false;
	s = *mark;
	bpf_map_delete_elem(&sending_by_thread, &thread);
	f = bpf_map_lookup_elem(&flow_by_tuple, &s.tuple);
	if (!f || !f->pending)
		return true;
	if (ret < 0) {
		bpf_map_delete_elem(&flow_by_tuple, &s.tuple);
		return true;
	}
	f->pending = 0;
	current_owner(&o);
	tell_flow(f, &s.tuple, s.family, s.began, &o);
	if (f->refused)
		tell_refused(f, &s.tuple, s.family);
	return true;
}

/* Port unreachable came back to a connected socket. Runs in whatever task: the flow has its owner. */
static __always_inline void flow_refused(struct sock *sk)
{
	u64 key = (u64)sk;
	struct bound *b;
	struct flow *f;
	struct ends e;
	struct tuple t;

	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_UDP ||
	    BPF_CORE_READ(sk, sk_err) != ECONNREFUSED || !inet_proto(sk))
		return;
	ends_probed((struct inet_sock *)sk, &e);
	if (!addressed(&e))
		return;
	e.netns = sock_netns(sk);
	default_source(&e);
	tuple_of(&e, IPPROTO_UDP, &t);
	f = bpf_map_lookup_elem(&flow_by_tuple, &t);
	b = bpf_map_lookup_elem(&bound_by_sock, &key);
	if (!f || !b || f->client_sock != b->id || f->refused)
		return;
	f->refused = 1;
	if (!f->pending) /* else datagram_ends() tells, after the flow itself */
		tell_refused(f, &t, e.family);
}

#endif
