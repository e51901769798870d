/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Descriptors that change hands: SCM_RIGHTS and pidfd_getfd(2). Who holds a port may be another
 * since; the table of open files tells, and here only that it is to be asked.
 */
#ifndef LOOPTRACE_PASS_H
#define LOOPTRACE_PASS_H

#include "syscall.h"

#define AF_UNIX 1
#define SOL_SOCKET 1
#define SCM_RIGHTS 1
#define CONTROLS_MAX                                                                               \
	4 /* control messages of one recvmsg() that are looked at: credentials come before descriptors */
#define PASSED_MAX 8 /* descriptors, likewise */

/* struct user_msghdr and struct cmsghdr of include/linux/socket.h, as 64-bit programs have them. */
struct user_msghdr {
	u64 name;
	u64 namelen;
	u64 iov;
	u64 iovlen;
	u64 control;
	u64 controllen;
};

struct cmsghdr {
	u64 len;
	u32 level;
	u32 type;
};

/*
 * pid_tgid -> struct user_msghdr of a recvmsg() under way, on a UNIX socket and with room for control
 * messages. Threads wait in it for as long as they like. LRU: without an entry, a descriptor that
 * comes is found at the next look.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, u64);
} receiving_by_thread SEC(".maps");

static __always_inline bool is_connection(struct sock *sk)
{
	struct ends e;

	if (inet_proto(sk) != IPPROTO_TCP)
		return false;
	ends_probed((struct inet_sock *)sk, &e);
	return e.rport && addressed(&e);
}

/* The current process got a descriptor of a socket. */
static __always_inline void socket_received(struct sock *held)
{
	struct sock *sk = held ? inner_sock(held) : NULL;
	u64 key = (u64)sk;
	struct task_event *t;
	struct bound *b;

	if (!sk)
		return;
	b = bpf_map_lookup_elem(&bound_by_sock, &key);
	if ((!b || (!b->port && !b->listening)) && !is_connection(sk))
		return; /* who holds it is nobody's question */
	t = reserve(sizeof(*t), KIND_RECEIVED, bpf_ktime_get_boot_ns());
	if (!t)
		return;
	if (!b)
		t->h.flags |= FLAG_ACCEPTED;
	fill_task(t, (void *)bpf_get_current_task());
	submit(t);
}

static __always_inline void file_received(struct file *file)
{
	struct socket *socket;

	if (BPF_CORE_READ(file, f_inode, i_sb, s_magic) != SOCKFS_MAGIC)
		return;
	socket = BPF_CORE_READ(file, private_data);
	socket_received(BPF_CORE_READ(socket, sk));
}

/* ---- the tracepoint form ---- */

static __always_inline void recvmsg_begins(u32 fd, u64 addr)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct user_msghdr *msg = (void *)addr;
	struct sock *sk = socket_of_fd(fd);
	u64 room;

	if (!sk || BPF_CORE_READ(sk, __sk_common.skc_family) != AF_UNIX)
		return;
	if (bpf_probe_read_user(&room, sizeof(room), &msg->controllen) || !room)
		return;
	bpf_map_update_elem(&receiving_by_thread, &thread, &addr, BPF_ANY);
}

static __always_inline void fds_received(u64 addr, u64 len)
{
	for (int i = 0; i < PASSED_MAX && (i + 1) * sizeof(u32) <= len; i++) {
		u32 fd;

		if (bpf_probe_read_user(&fd, sizeof(fd), (void *)(addr + i * sizeof(fd))))
			return;
		socket_received(socket_of_fd(fd));
	}
}

static __always_inline void recvmsg_ends(s64 ret)
{
	u64 thread = bpf_get_current_pid_tgid(), end;
	u64 *addr = bpf_map_lookup_elem(&receiving_by_thread, &thread);
	struct user_msghdr msg = {};
	struct cmsghdr control;

	if (!addr)
		return;
	if (ret >= 0)
		bpf_probe_read_user(&msg, sizeof(msg), (void *)*addr);
	bpf_map_delete_elem(&receiving_by_thread, &thread);
	end = msg.control + msg.controllen; /* what is filled of it by now */
	for (int i = 0; i < CONTROLS_MAX && msg.control + sizeof(control) <= end; i++) {
		if (bpf_probe_read_user(&control, sizeof(control), (void *)msg.control) ||
		    control.len < sizeof(control))
			return;
		if (control.level == SOL_SOCKET && control.type == SCM_RIGHTS) {
			fds_received(msg.control + sizeof(control), control.len - sizeof(control));
			return;
		}
		msg.control += (control.len + 7) & ~7ULL;
	}
}

static __always_inline void fd_received(s64 fd)
{
	if (fd >= 0)
		socket_received(socket_of_fd(fd));
}

#endif
