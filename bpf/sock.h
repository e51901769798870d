/* SPDX-License-Identifier: GPL-2.0 */
/* Sockets: both ends of one, unmapped and in host order. */
#ifndef LOOPTRACE_SOCK_H
#define LOOPTRACE_SOCK_H

#include "compat.h"
#include "maps.h"

#define AF_UNSPEC 0
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_MPTCP 262
#define IFF_LOOPBACK 8

/* enum in include/net/tcp_states.h */
enum {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT = 2,
	TCP_SYN_RECV = 3,
	TCP_FIN_WAIT1 = 4,
	TCP_TIME_WAIT = 6,
	TCP_CLOSE = 7,
	TCP_CLOSE_WAIT = 8,
	TCP_LAST_ACK = 9,
	TCP_LISTEN = 10,
	TCP_CLOSING = 11,
	TCP_NEW_SYN_RECV = 12,
};

#define SOCKFS_MAGIC 0x534F434B
#define SHUTDOWN_MASK 3
#define SOCK_BINDPORT_LOCK 8

union address {
	u8 b[16];
	u32 w[4];
	u64 d[2];
};

struct ends {
	union address local, remote;
	u16 lport, rport;
	u16 family;
	u32 netns;
};

static __always_inline void set_v4(union address *a, __be32 v4)
{
	a->d[0] = 0;
	a->w[2] = bpf_htonl(0xffff);
	a->w[3] = v4;
}

static __always_inline bool is_v4(const union address *a)
{
	return a->d[0] == 0 && a->w[2] == bpf_htonl(0xffff);
}

static __always_inline bool is_any(const union address *a)
{
	return a->d[0] == 0 && a->w[3] == 0 && (a->w[2] == 0 || a->w[2] == bpf_htonl(0xffff));
}

/* Where the kernel takes a connect() to 0.0.0.0 or :: (tcp_v4_connect, tcp_v6_connect). */
static __always_inline void set_loopback(union address *a)
{
	if (is_v4(a))
		a->w[3] = bpf_htonl(0x7f000001);
	else
		a->w[3] = bpf_htonl(1);
}

/* 127.0.0.0/8, mapped or not, and ::1 */
static __always_inline bool is_loopback(const union address *a)
{
	if (a->d[0])
		return false;
	if (a->w[2] == bpf_htonl(0xffff))
		return a->b[12] == 127;
	return a->w[2] == 0 && a->w[3] == bpf_htonl(1);
}

/*
 * Reads both ends of a socket. inet_sport, not skc_num: the latter is 0 once the socket is closed.
 * DIRECT for pointers that the verifier knows by type, at no cost; PROBED for any other.
 */
#define DIRECT(p, field) ((p)->field)
#define PROBED(p, field) BPF_CORE_READ(p, field)
#define SKC(field) sk.__sk_common.field
#define DEFINE_ENDS(name, GET)                                                                     \
	static __always_inline void name(struct inet_sock *inet, struct ends *e)                   \
	{                                                                                          \
		e->family = GET(inet, SKC(skc_family));                                            \
		e->lport = bpf_ntohs(GET(inet, inet_sport));                                       \
		e->rport = bpf_ntohs(GET(inet, SKC(skc_dport)));                                   \
		if (e->family == AF_INET) {                                                        \
			set_v4(&e->local, GET(inet, SKC(skc_rcv_saddr)));                          \
			set_v4(&e->remote, GET(inet, SKC(skc_daddr)));                             \
			return;                                                                    \
		}                                                                                  \
		for (int i = 0; i < 4; i++) {                                                      \
			e->local.w[i] = GET(inet, SKC(skc_v6_rcv_saddr.in6_u.u6_addr32[i]));       \
			e->remote.w[i] = GET(inet, SKC(skc_v6_daddr.in6_u.u6_addr32[i]));          \
		}                                                                                  \
	}

DEFINE_ENDS(ends_direct, DIRECT)
DEFINE_ENDS(ends_probed, PROBED)

static __always_inline u16 sock_flags(struct sock *sk)
{
	u16 flags = 0;

	if (BPF_CORE_READ_BITFIELD_PROBED(sk, __sk_common.skc_ipv6only))
		flags |= FLAG_V6ONLY;
	if (BPF_CORE_READ_BITFIELD_PROBED(sk, __sk_common.skc_reuse))
		flags |= FLAG_REUSE;
	if (BPF_CORE_READ_BITFIELD_PROBED(sk, __sk_common.skc_reuseport))
		flags |= FLAG_REUSEPORT;
	return flags;
}

static __always_inline u32 sock_netns(void *sk)
{
	struct sock *s = sk;

	return BPF_CORE_READ(s, __sk_common.skc_net.net, ns.inum);
}

/* The caller asked for this port, or inherited it from a listener that did. */
static __always_inline bool port_fixed(struct sock *sk)
{
	return BPF_CORE_READ_BITFIELD_PROBED(sk, sk_userlocks) & SOCK_BINDPORT_LOCK;
}

/*
 * The socket whose states and ports are those of `sk`: itself, or the first subflow of an MPTCP
 * socket, which is what the process holds. NULL where there is none yet.
 */
static __always_inline struct sock *inner_sock(struct sock *sk)
{
	if (has_mptcp() && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_MPTCP)
		return BPF_CORE_READ((struct mptcp_sock *)sk, first);
	return sk;
}

/* TCP or UDP over IP, else 0. */
static __always_inline u16 inet_proto(struct sock *sk)
{
	u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
	u16 proto;

	if (family != AF_INET && family != AF_INET6)
		return 0;
	proto = BPF_CORE_READ(sk, sk_protocol);
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP ? proto : 0;
}

/* The same key from either end. */
static __always_inline void tuple_of(const struct ends *e, u16 proto, struct tuple *t)
{
	bool swap = e->lport > e->rport ||
		    (e->lport == e->rport &&
		     (e->local.d[0] > e->remote.d[0] ||
		      (e->local.d[0] == e->remote.d[0] && e->local.d[1] > e->remote.d[1])));
	const union address *lo = swap ? &e->remote : &e->local;
	const union address *hi = swap ? &e->local : &e->remote;

	t->addr[0] = lo->d[0];
	t->addr[1] = lo->d[1];
	t->addr[2] = hi->d[0];
	t->addr[3] = hi->d[1];
	t->port[0] = swap ? e->rport : e->lport;
	t->port[1] = swap ? e->lport : e->rport;
	t->netns = e->netns;
	t->proto = proto;
	t->pad = 0;
}

static __always_inline void copy_address(u8 *to, const union address *from)
{
	__builtin_memcpy(to, from, 16);
}

/* Reads a sockaddr of kernel or user memory; false for another family. */
static __always_inline bool read_sockaddr(u64 addr, bool user, union address *a, u16 *port)
{
	struct sockaddr_in6 sa = {};

	/* Each family by its own size: more may lie beyond what the caller passed. */
	if (user ? bpf_probe_read_user(&sa, sizeof(struct sockaddr_in), (void *)addr) :
		   bpf_probe_read_kernel(&sa, sizeof(struct sockaddr_in), (void *)addr))
		return false;
	*port = bpf_ntohs(sa.sin6_port);
	if (sa.sin6_family == AF_INET || sa.sin6_family == AF_UNSPEC) {
		set_v4(a, ((struct sockaddr_in *)&sa)->sin_addr.s_addr);
		return true;
	}
	if (sa.sin6_family != AF_INET6)
		return false;
	if (user ? bpf_probe_read_user(&sa, sizeof(sa), (void *)addr) :
		   bpf_probe_read_kernel(&sa, sizeof(sa), (void *)addr))
		return false;
	__builtin_memcpy(a, sa.sin6_addr, 16);
	return true;
}

/* A number for a socket or a connection that no other has on this host until it reboots. */
static __always_inline u64 new_id(u64 now)
{
	return now << 8 | (bpf_get_smp_processor_id() & 0xff);
}

#endif
