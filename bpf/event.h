/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The wire: every record that the kernel side sends through the ring or an iterator. Mirrored
 * field by field in tracer/decode.go; a Go test holds the two layouts against each other by this
 * object's BTF. Ports are in host order; addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d.
 */
#ifndef LOOPTRACE_EVENT_H
#define LOOPTRACE_EVENT_H

/* Values are part of the wire: append, never renumber. */
enum kind {
	KIND_BIND = 1,
	KIND_LISTEN = 2,
	KIND_RELEASE = 3,
	KIND_CONNECT = 4,
	KIND_ACCEPT = 5,
	KIND_CLOSE = 6,
	KIND_EXEC = 7,
	KIND_FORK = 8,
	KIND_EXIT = 9,
	KIND_RENAME = 10,
	KIND_REFUSED = 11, /* a UDP flow met port unreachable */
	KIND_RECEIVED = 12, /* a process got a descriptor of a socket that holds a port */
	KIND_MOVED = 13, /* a process is in another cgroup */
	KIND_PEER = 14, /* connect() of a UDP socket that had a port: whom it talks to */
};

enum event_flag {
	FLAG_EPHEMERAL = 1 << 0, /* bind, connect: the kernel picked the port, the client's */
	FLAG_V6ONLY = 1 << 1,
	FLAG_IMPLICIT = 1 << 2, /* bind: nobody called bind() */
	FLAG_REQUESTED = 1 << 3, /* bind: req_addr and req_port are what the caller asked for */
	FLAG_KEPT = 1 << 4, /* release by shutdown(): the socket keeps its port */
	FLAG_SELF = 1 << 5, /* TCP self-connect */
	FLAG_RESET = 1 << 6,
	FLAG_ACCEPTED = 1 << 7, /* received: a connection's, which has no records as a socket */
	FLAG_PREEXISTING = 1 << 8, /* found by the snapshot, not seen to begin */
	FLAG_LIVE = 1 << 9, /* snapshot row: a hook saw it first, its events are in the ring */
	FLAG_SERVER = 1 << 10, /* snapshot row: the server's end of the connection */
	FLAG_IPV6 = 1 << 11, /* an AF_INET6 socket, whatever address it uses */
	FLAG_REUSE = 1 << 12,
	FLAG_REUSEPORT = 1 << 13,
	FLAG_QUEUE = 1 << 14, /* connect: queue_length and queue_limit are known */
	FLAG_ENDING = 1 << 15, /* snapshot row: the other end has sent its FIN */
	FLAG_ORPHAN = 1 << 15, /* held_row, in place of FLAG_ENDING: no file is open */
};

enum closer { CLOSER_UNKNOWN = 0, CLOSER_CLIENT = 1, CLOSER_SERVER = 2 };

enum reason { REASON_UNKNOWN = 0, REASON_CLOSE = 1, REASON_EXIT = 2, REASON_SHUTDOWN = 3 };

#define THREAD_NAME 16 /* TASK_COMM_LEN */
#define ARGS_MAX 1024 /* the contract's cut of command_line */
#define PATH_BYTES 1024 /* executable path, components leaf first; a longer one is left out */
#define CGROUP_BYTES 1024 /* cgroup path, components leaf first */

/* A process that is known to be the actor. tgid 0: not known. */
struct owner {
	u64 start; /* task.start_boottime of the group leader, ns */
	u32 tgid;
	u32 uid;
	char thread[THREAD_NAME]; /* comm of the calling thread; empty where it is the leader */
};

struct process_id {
	u64 start;
	u32 tgid;
	u32 uid;
};

struct event_header {
	u64 time; /* CLOCK_BOOTTIME, ns */
	u16 kind;
	u16 flags;
	u32 netns;
};

/*
 * KIND_BIND, KIND_LISTEN, KIND_RELEASE, KIND_PEER, and the snapshot's rows of sockets. Without FLAG_REQUESTED
 * req_addr and req_port are the peer of a UDP socket; port 0: it takes what anybody sends.
 */
struct sock_event {
	struct event_header h;
	u64 id;
	u64 since; /* release: when the port was bound; listen: when it began to, 0 if not known */
	struct owner actor;
	u8 addr[16];
	u8 req_addr[16];
	u16 port;
	u16 req_port;
	u16 proto;
	u16 reason;
	s32 error; /* positive errno */
	u32 backlog;
	s32 exit_code; /* task.exit_code where reason is REASON_EXIT */
	u32 state; /* snapshot: TCP state */
	u16 range_low; /* bind: ip_local_port_range of the namespace; 0, 0 where it is not known */
	u16 range_high;
	u32 pad;
};

/* KIND_CONNECT, KIND_ACCEPT, KIND_CLOSE, KIND_REFUSED, and the snapshot's rows of connections */
struct conn_event {
	struct event_header h;
	u64 id;
	u64 started; /* connect, close: first SYN; accept: entered the accept queue */
	u64 c2s_bytes;
	u64 s2c_bytes;
	struct process_id client;
	struct process_id server; /* who accepted; tgid 0 before that */
	struct process_id
		last; /* close: who closed the end that closed first, where it is another than the end's */
	u64 server_sock; /* UDP: id of the socket that was bound to the server's port */
	u64 client_sock; /* id of the client's socket, which has records of its own: UDP, or bound first */
	u8 client_addr[16];
	u8 server_addr[16];
	u16 client_port;
	u16 server_port;
	u16 proto;
	u16 closer;
	s32 error;
	u32 retransmits;
	u32 queue_length; /* the listener's accept queue when the SYN was sent again */
	u32 queue_limit;
	char thread[THREAD_NAME]; /* of the client in connect, of the acceptor in accept */
};

/* KIND_EXEC carries what names a process, KIND_MOVED its cgroup of that; the others the head only. */
struct task_event {
	struct event_header h; /* netns is not filled */
	struct process_id task;
	u64 parent_start;
	u32 parent_tgid;
	s32 exit_code;
	char comm[THREAD_NAME];
};

struct exec_event {
	struct task_event t;
	u64 cgroup; /* kernfs id of the cgroup whose path is given */
	u16 args_len;
	u16 path_len;
	u16 cgroup_len;
	u16 path_cut; /* 1: path deeper or longer than PATH_BYTES can say */
	u32 pad;
	u8 args[ARGS_MAX]; /* NUL-separated argv */
	u8 path[PATH_BYTES * 2];
	u8 cgroup_path[CGROUP_BYTES * 2];
};

/* A socket that holds a port, as the kernel's tables have it now (held.h) */
struct held_row {
	u64 sock; /* kernel address: joins the rows of one socket */
	u64 id; /* of its bind or listen record, 0 where it has none */
	u64 expires; /* TIME_WAIT: when it ends, in jiffies */
	u64 jiffies; /* now */
	struct owner owner; /* tgid 0: no open file */
	u64 since; /* a connection, or what is left of one: when it became that; 0: not known */
	struct process_id known; /* whose end it is or was, by the calls; tgid 0: not known */
	u8 local[16];
	u8 remote[16];
	u16 lport;
	u16 rport;
	u16 proto;
	u16 flags;
	u32 netns;
	u32 state;
};

/* KIND_BIND and KIND_LISTEN of TCP with EADDRINUSE, for a port that was named */
struct in_use_event {
	struct sock_event s;
	struct held_row way; /* sock 0: nothing is in the way any more */
};

/* A socket of a process, as a look without hooks has it (list.h): one for each process that holds it. */
struct list_row {
	u64 sock; /* kernel address and inode: the same in all rows of a socket, in no other's */
	u64 inode;
	u64 id; /* for its records; of a socket, that of its first row counts */
	struct process_id owner;
	u8 local[16];
	u8 remote[16];
	u16 lport;
	u16 rport;
	u16 proto;
	u16 flags;
	u32 netns;
	u32 state;
	u32 backlog; /* an accepted socket has its listener's */
	u16 range_low; /* ip_local_port_range of the namespace; 0, 0 for connections */
	u16 range_high;
};

/* What --summary counts by. Programs by their name: processes come and go by the thousand. */
struct tally_key {
	char client[THREAD_NAME];
	char server[THREAD_NAME]; /* empty: nobody accepted */
	s32 error;
	u16 port;
	u16 pad;
};

#define TALLY_SHIFT 10 /* the first slot ends at about 1 us */
#define TALLY_POWERS 24
#define TALLY_SLOTS (TALLY_POWERS * 4)

struct tally {
	u64 count;
	u64 c2s_bytes;
	u64 s2c_bytes;
	u64 longest; /* handshake, ns */
	u64 first; /* CLOCK_BOOTTIME: the first began, the last ended */
	u64 last;
	struct process_id client; /* one of them */
	struct process_id server;
	u32 many_clients; /* 1: there were others */
	u32 many_servers;
	u32 slots[TALLY_SLOTS]; /* handshakes by duration: slot_of */
};

/* Places of loss and other counts, one slot each in the map `counters`. */
enum counter {
	LOST_RING = 0, /* the ring was full */
	LOST_CONNS = 1, /* connection table full */
	LOST_DIALING = 2,
	LOST_SOCKS = 3,
	LOST_CALLS = 4,
	LOST_FLOWS = 5,
	LOST_PORTS = 6,
	LOST_TALLIES = 7,
	COUNTERS = 8,
};

_Static_assert(sizeof(struct owner) == 32, "wire");
_Static_assert(sizeof(struct event_header) == 16, "wire");
_Static_assert(sizeof(struct sock_event) == 128, "wire");
_Static_assert(sizeof(struct conn_event) == 184, "wire");
_Static_assert(sizeof(struct task_event) == 64, "wire");
_Static_assert(sizeof(struct held_row) == 136, "wire");
_Static_assert(sizeof(struct in_use_event) == 264, "wire");
_Static_assert(sizeof(struct list_row) == 96, "wire");
_Static_assert(sizeof(struct tally_key) == 40, "wire");
_Static_assert(sizeof(struct tally) == 472, "wire");

#endif
