/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The state that the kernel side keeps. Sizes here are defaults; user space may change them before
 * load. No map may fill without a count: see `count_loss`.
 */
#ifndef LOOPTRACE_MAPS_H
#define LOOPTRACE_MAPS_H

#include "event.h"

/* Both endpoints of a connection in one order, the same seen from either end (`tuple_of`). */
struct tuple {
	u64 addr[4]; /* lower endpoint, higher endpoint */
	u32 netns;
	u16 port[2];
	u32 proto;
	u32 pad;
};

/* What the filters say of one end. Unknown: every bit asked for, none to exclude. */
struct verdict {
	u8 match;
	u8 exclude;
};

/* A connect() under way. */
struct dial {
	struct owner owner;
	u64 started;
	struct verdict verdict;
	u8 queue_known; /* a SYN was sent again while one listener had the port */
	u8 preexisting;
	u32 queue_length;
	u32 queue_limit;
	u32 pad;
	char program[THREAD_NAME]; /* --summary: the client's */
};

/* A connection: both sockets, both owners. */
struct conn {
	u64 id;
	u64 client_sk; /* 0: not seen (yet) */
	u64 server_sk;
	u64 started;
	u64 established;
	u64 c2s_bytes;
	u64 s2c_bytes;
	struct process_id client;
	struct process_id server; /* who accepted */
	struct process_id last; /* who closed the end that closed first; tgid 0: as above */
	u8 client_addr[16];
	u8 server_addr[16];
	u16 client_port;
	u16 server_port;
	struct verdict client_verdict;
	struct verdict server_verdict;
	u8 self; /* one socket is both ends */
	u8 closer;
	/* One byte each, so that two CPUs never write the same one. */
	u8 client_left;
	u8 server_left;
	u8 accepted;
	u8 server_gone; /* the accepting side's socket is destroyed: nobody can accept it any more */
	u8 reset;
	u8 preexisting;
	u8 ipv6;
	u8 dying; /* `dying_by_sock` has an entry of this connection */
	u8 told; /* user space has a record of it */
	u8 pad;
	char client_program[THREAD_NAME]; /* --summary */
	char server_program[THREAD_NAME];
	u64 barrier; /* only ever added to: orders the two *_left bytes */
};

/* What is left of a connection that user space was not told of: a TIME_WAIT's last owner. */
struct remains {
	u64 since;
	struct process_id owner;
};

/* A socket that holds a port, or tried to get one: it has a bind or listen record. */
struct bound {
	u64 id;
	u64 since; /* 0: it has not been bound */
	u64 listen_since; /* CLOSE -> LISTEN: connections succeed from here on */
	u32 tgid; /* who bound it */
	u16 port; /* 0: none (yet) */
	u8 proto;
	u8 listening;
	u8 ephemeral;
	u8 dial_failed; /* its connect() failed after the SYN: the return hook has nothing to add */
	u16 pad;
	u32 netns;
};

/* A system call or kernel function between its entry and its return. */
struct call {
	u64 sk; /* listen: the socket that went 7 -> 10 in this call */
	u64 addr; /* sockaddr: user memory in the tracepoint form, kernel memory else */
	u32 fd;
	u32 len;
};

struct flow {
	u64 id;
	u64 client_sock; /* ids, not addresses: a socket's address is reused at once */
	u64 server_sock;
	struct process_id client;
	u8 client_addr[16];
	u8 server_addr[16];
	u16 client_port;
	u16 server_port;
	struct verdict verdict;
	u8 refused;
	u8 pending; /* its first datagram is being sent */
};

/* The first datagram of a flow, on its way through sendmsg(). */
struct sending {
	struct tuple tuple;
	u64 began;
	u16 family;
	u16 pad[3];
};

struct port_key {
	u32 netns;
	u16 port;
	u16 proto;
};

/* Who is behind a port, as far as a filter needs it. */
struct port_owner {
	u64 sock; /* id of the latest socket */
	u64 sk; /* its address */
	struct process_id owner;
	u32 sockets; /* how many: with several, nobody is sure */
	u32 shared; /* its owner forked after listen(): others may hold it */
	struct verdict verdict;
	u8 pad[6];
};

/*
 * Records to user space. Written by every hook, read by one goroutine. When it is full the record
 * is dropped and LOST_RING counted.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} events SEC(".maps");

/*
 * sock address -> connect() under way. Inserted at CLOSE -> SYN_SENT, deleted when that state is
 * left. Full: the connection's client stays unknown, LOST_DIALING.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, u64);
	__type(value, struct dial);
} dial_by_sock SEC(".maps");

/*
 * tuple -> TCP connection. Inserted by whichever end is seen established first (on loopback the
 * client) and by the snapshot; deleted with the close event, which the deleter emits: so it is
 * emitted once. Read by the filter and by user space. Full: LOST_CONNS.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__type(key, struct tuple);
	__type(value, struct conn);
} conn_by_tuple SEC(".maps");

/*
 * The end that closed first, then the other (`end_key`) -> whose it was. Written where a filter drops
 * a close record, read when somebody asks for its port. LRU: without an entry the last owner is unknown.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, struct tuple);
	__type(value, struct remains);
} remains_by_end SEC(".maps");

/*
 * sock address -> tuple, of sockets whose connection ends with their destruction. Inserted when
 * such a socket reaches CLOSE, deleted by accept or tcp_destroy_sock: tcp_disconnect(), which
 * close() with SO_LINGER 0 and a closing listener run, has wiped the ports by then. Full:
 * LOST_CONNS, the close record may not come.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, struct tuple);
} dying_by_sock SEC(".maps");

/*
 * sock address -> socket that holds a port, or tried to. Inserted by bind, listen, a first datagram and the
 * snapshot; deleted by the last close. Full: LOST_SOCKS, the socket has no more records.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, u64);
	__type(value, struct bound);
} bound_by_sock SEC(".maps");

/*
 * (netns, port, protocol) -> listeners, or UDP sockets, on that port, whatever their address.
 * Counted up and down with `bound_by_sock`. Full: LOST_PORTS, and the filter lets through.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct port_key);
	__type(value, struct port_owner);
} owner_by_port SEC(".maps");

/*
 * pid_tgid -> call under way, for the forms that see entry and return apart. Deleted at return;
 * a thread that dies inside is overwritten by the next with its number. Full: LOST_CALLS.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, struct call);
} call_by_thread SEC(".maps");

/*
 * tuple -> UDP flow. LRU: a flow has no end in the kernel but its sockets', and losing the oldest
 * only means that its next datagram starts a new one.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, struct tuple);
	__type(value, struct flow);
} flow_by_tuple SEC(".maps");

/*
 * pid_tgid -> flow whose first datagram that thread sends. Deleted when it is sent, or is not; an end
 * that is missed is made good by the next datagram of the flow. Full: LOST_CALLS.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, struct sending);
} sending_by_thread SEC(".maps");

/* tgid -> 1 for the processes of `run`'s tree. User space adds the root, fork the rest. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, u32);
	__type(value, u32);
} tree SEC(".maps");

/*
 * cgroup's kernfs id -> enum cgroup_verdict. Written by user space with --container, for each
 * cgroup that it sees. LRU: one that is forgotten passes again.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, u8);
} verdict_by_cgroup SEC(".maps");

/* counter -> count, per CPU. Written where something is lost, read by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, u32);
	__type(value, u64);
} counters SEC(".maps");

static __always_inline void count_loss(u32 place)
{
	u64 *n = bpf_map_lookup_elem(&counters, &place);

	if (n)
		(*n)++;
}

#endif
