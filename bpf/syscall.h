/* SPDX-License-Identifier: GPL-2.0 */
/* From what a hook form sees of a call to the body: sockaddr in kernel or user memory, fd to socket. */
#ifndef LOOPTRACE_SYSCALL_H
#define LOOPTRACE_SYSCALL_H

#include "conn.h"
#include "udp.h"

/* include/uapi/linux/io_uring.h */
enum { IORING_OP_ACCEPT = 13, IORING_OP_CONNECT = 16, IORING_OP_BIND = 56, IORING_OP_LISTEN = 57 };

static __always_inline void tcp_destroyed(struct sock *sk)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct ends e;

	if (!tp)
		return;
	ends_direct(&tp->inet_conn.icsk_inet, &e);
	e.netns = tp->inet_conn.icsk_inet.sk.__sk_common.skc_net.net->ns.inum;
	released_unseen(tp, &e);
	conn_destroyed(tp, &e);
}

static __always_inline void socket_released(struct socket *sock)
{
	struct sock *sk = BPF_CORE_READ(sock, sk);

	if (sk) /* NULL after a failed socket() */
		released(sk);
}

/* ---- kernel functions, whose sockaddr is kernel memory ---- */

static __always_inline void kernel_bind(struct sock *sk, void *addr, int ret)
{
	struct request req = {};

	req.known = read_sockaddr((u64)addr, false, &req.addr, &req.port);
	bind_returned(sk, &req, ret);
}

static __always_inline void kernel_connect(struct sock *sk, void *addr, int ret)
{
	struct request req = {};

	if (!ret)
		return;
	req.known = read_sockaddr((u64)addr, false, &req.addr, &req.port);
	connect_returned(sk, &req, ret);
}

static __always_inline void kernel_connect6(struct sock *sk, void *addr, int ret)
{
	struct request req = {};

	if (!ret)
		return;
	req.known = read_sockaddr((u64)addr, false, &req.addr, &req.port);
	if (is_v4(&req.addr))
		return; /* tcp_v4_connect was called inside, and told */
	connect_returned(sk, &req, ret);
}

static __always_inline void kernel_datagram(struct sock *sk, struct msghdr *msg)
{
	void *name = BPF_CORE_READ(msg, msg_name);
	struct request req = {};

	if (name)
		req.known = read_sockaddr((u64)name, false, &req.addr, &req.port);
	datagram(sk, &req, false);
}

/* ---- calls seen at entry and at return ---- */

static __always_inline void call_begins(u64 sk, u64 addr, u32 fd)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct call call = { .sk = sk, .addr = addr, .fd = fd };

	if (bpf_map_update_elem(&call_by_thread, &thread, &call, BPF_ANY))
		count_loss(LOST_CALLS);
}

/* Takes the call of this thread; false where its beginning was not seen. */
static __always_inline bool call_ends(struct call *call)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct call *known = bpf_map_lookup_elem(&call_by_thread, &thread);

	if (!known)
		return false;
	*call = *known;
	bpf_map_delete_elem(&call_by_thread, &thread);
	return true;
}

static __always_inline void kprobe_bind_ends(int ret)
{
	struct call call;

	if (call_ends(&call))
		kernel_bind((struct sock *)call.sk, (void *)call.addr, ret);
}

static __always_inline void kprobe_listen_ends(int ret)
{
	struct call call;

	if (call_ends(&call))
		listen_returned((struct sock *)call.sk, ret);
}

static __always_inline void kernel_dgram_connect(struct socket *sock, int ret)
{
	struct sock *sk = BPF_CORE_READ(sock, sk);

	if (!ret && sk)
		dgram_connected(sk);
}

static __always_inline void kprobe_dgram_ends(int ret)
{
	struct call call;

	if (call_ends(&call))
		kernel_dgram_connect((struct socket *)call.sk, ret);
}

static __always_inline void kernel_listen(struct socket *sock, int backlog)
{
	struct sock *sk = BPF_CORE_READ(sock, sk);

	if (sk)
		listen_again(sk, backlog);
}

static __always_inline void kprobe_connect_ends(int ret)
{
	struct call call;

	if (call_ends(&call))
		kernel_connect((struct sock *)call.sk, (void *)call.addr, ret);
}

/* The socket behind a descriptor of the current process, NULL where it is none. */
static __always_inline struct sock *socket_of_fd(u32 fd)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fdtable *fdt = BPF_CORE_READ(task, files, fdt);
	struct file **fds = BPF_CORE_READ(fdt, fd);
	struct socket *socket;
	struct file *file;

	if (fd >= BPF_CORE_READ(fdt, max_fds))
		return NULL;
	if (bpf_probe_read_kernel(&file, sizeof(file), fds + fd) || !file)
		return NULL;
	if (BPF_CORE_READ(file, f_inode, i_sb, s_magic) != SOCKFS_MAGIC)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

static __always_inline void syscall_bind_ends(s64 ret)
{
	struct request req = {};
	struct call call;
	struct sock *sk;

	if (!call_ends(&call))
		return;
	sk = socket_of_fd(call.fd);
	if (!sk)
		return;
	/* Read now, not at entry: by now the page is resident, and the program did not fault it in. */
	req.known = read_sockaddr(call.addr, true, &req.addr, &req.port);
	bind_returned(sk, &req, ret);
}

static __always_inline void syscall_listen_ends(s64 ret)
{
	struct sock *sk;
	struct call call;

	if (!call_ends(&call))
		return;
	if (call.sk) {
		listen_returned((struct sock *)call.sk, ret);
		return;
	}
	sk = socket_of_fd(call.fd);
	sk = sk ? inner_sock(sk) : NULL;
	if (sk && !ret) /* it listens already */
		listen_returned(sk, ret);
}

static __always_inline void syscall_connect_ends(s64 ret)
{
	struct request req = {};
	struct call call;
	struct sock *sk;

	if (!call_ends(&call))
		return;
	sk = socket_of_fd(call.fd);
	if (!sk)
		return;
	if (!ret) {
		dgram_connected(sk);
		return;
	}
	req.known = read_sockaddr(call.addr, true, &req.addr, &req.port);
	connect_returned(sk, &req, ret);
}

static __always_inline void accepted_fd(s64 fd)
{
	struct sock *sk;

	if (fd < 0)
		return;
	sk = socket_of_fd(fd);
	if (sk)
		accepted(sk);
}

/* io_uring does what no system call shows; its worker threads belong to the process that asked. */
static __always_inline void uring_complete(struct io_kiocb *req, int res)
{
	struct request none = {};
	struct socket *socket;
	struct sock *sk;
	u8 op;

	if (!req)
		return;
	op = BPF_CORE_READ(req, opcode);
	if (op == IORING_OP_ACCEPT) {
		accepted_fd(res);
		return;
	}
	if (op != IORING_OP_BIND && op != IORING_OP_LISTEN && op != IORING_OP_CONNECT)
		return;
	socket = BPF_CORE_READ(req, file, private_data);
	sk = BPF_CORE_READ(socket, sk);
	if (!sk)
		return;
	if (op == IORING_OP_CONNECT) {
		if (!res)
			dgram_connected(sk);
		return;
	}
	if (op == IORING_OP_BIND)
		bind_returned(sk, &none, res);
	else if (inner_sock(sk))
		listen_returned(inner_sock(sk), res);
}

/* A UDP socket has sent, or has not. */
static __always_inline void send_returned(struct sock *sk, int ret)
{
	struct request none = {};

	if (!inet_proto(sk))
		return;
	if (datagram_ends(ret) || ret < 0)
		return;
	/* Unconnected sockets have no peer, and cgroup/sendmsg has seen where this went. */
	datagram(sk, &none, true);
	/* The refusal came back while it was sent, when there was no flow yet to refuse. */
	flow_refused(sk);
}

#endif
