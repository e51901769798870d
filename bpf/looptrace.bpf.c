// SPDX-License-Identifier: GPL-2.0
/*
 * Entry points only: each unpacks the arguments of its hook and calls the body. The bodies are
 * shared by the three hook forms: fe_ (fentry, fexit), kp_ and kr_ (kprobe, kretprobe), and
 * se_/sx_ (system call tracepoints) with cg_ (cgroup programs). tp_ programs serve every form.
 */
#include "headers/vmlinux.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

#include "event.h"
#include "conn.h"
#include "iter.h"
#include "pass.h"
#include "proc.h"
#include "snapshot.h"
#include "syscall.h"
#include "udp.h"

char LICENSE[] SEC("license") = "GPL";

/* Keeps the wire's types in this object's BTF, for the test that compares them with Go's. */
const struct exec_event *wire_exec __attribute__((unused));
const struct in_use_event *wire_in_use __attribute__((unused));

/* ---- every form ---- */

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tp_state, struct sock *sk, int old, int new)
{
	if (!state_matters(old, new))
		return 0;
	STEADY(state_changed(sk, old, new, false); first_took(MARK_STATE, sk, old << 8 | new));
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tp_state_twin, struct sock *sk, int old, int new)
{
	if (state_matters(old, new) && !seen_by_first(MARK_STATE, sk, old << 8 | new))
		STEADY(state_changed(sk, old, new, true));
	return 0;
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(tp_destroy, struct sock *sk)
{
	STEADY(tcp_destroyed(sk); first_took(MARK_DESTROY, sk, 0));
	return 0;
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(tp_destroy_twin, struct sock *sk)
{
	if (!seen_by_first(MARK_DESTROY, sk, 0))
		STEADY(tcp_destroyed(sk));
	return 0;
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(tp_retransmit, struct sock *sk)
{
	syn_again(sk);
	return 0;
}

SEC("tp_btf/inet_sk_error_report")
int BPF_PROG(tp_error, struct sock *sk)
{
	flow_refused(sk);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(tp_exec, struct task_struct *task)
{
	STEADY(process_exec(task); first_took(MARK_EXEC, task, 0));
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(tp_exec_twin, struct task_struct *task)
{
	if (!seen_by_first(MARK_EXEC, task, 0))
		STEADY(process_exec(task));
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(tp_fork, struct task_struct *parent, struct task_struct *child)
{
	STEADY(process_fork(child); first_took(MARK_FORK, child, 0));
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(tp_fork_twin, struct task_struct *parent, struct task_struct *child)
{
	if (!seen_by_first(MARK_FORK, child, 0))
		STEADY(process_fork(child));
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(tp_exit, struct task_struct *task)
{
	STEADY(process_exit(task); first_took(MARK_EXIT, task, 0));
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(tp_exit_twin, struct task_struct *task)
{
	if (!seen_by_first(MARK_EXIT, task, 0))
		STEADY(process_exit(task));
	return 0;
}

SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(tp_moved, struct cgroup *to, const char *path, struct task_struct *task,
	     bool threadgroup)
{
	STEADY(process_moved(task, threadgroup));
	return 0;
}

SEC("tp_btf/task_rename")
int BPF_PROG(tp_rename, struct task_struct *task, const char *comm)
{
	STEADY(process_rename(task, comm));
	return 0;
}

OPEN_FILES(it_ports, snapshot_port)
OPEN_FILES(it_conns, snapshot_conn)
OPEN_FILES(it_held, held_by_file)

TCP_TABLE(it_tcp)

/* ---- fentry and fexit ---- */

SEC("fexit/__inet_bind")
int BPF_PROG(fe_inet_bind, struct sock *sk, void *addr, int len, u32 flags, int ret)
{
	STEADY(kernel_bind(sk, addr, ret));
	return 0;
}

SEC("fexit/__inet6_bind")
int BPF_PROG(fe_inet6_bind, struct sock *sk, void *addr, int len, u32 flags, int ret)
{
	STEADY(kernel_bind(sk, addr, ret));
	return 0;
}

SEC("fexit/inet_csk_listen_start")
int BPF_PROG(fe_listen, struct sock *sk, int ret)
{
	STEADY(listen_returned(sk, ret));
	return 0;
}

/* to 5.16: a second argument, the backlog (e7049395b1c3). Too few would be taken silently. */
SEC("fexit/inet_csk_listen_start")
int BPF_PROG(fe_listen_2, struct sock *sk, int backlog, int ret)
{
	STEADY(listen_returned(sk, ret));
	return 0;
}

SEC("fexit/tcp_v4_connect")
int BPF_PROG(fe_v4_connect, struct sock *sk, void *addr, int len, int ret)
{
	STEADY(kernel_connect(sk, addr, ret));
	return 0;
}

SEC("fexit/tcp_v6_connect")
int BPF_PROG(fe_v6_connect, struct sock *sk, void *addr, int len, int ret)
{
	STEADY(kernel_connect6(sk, addr, ret));
	return 0;
}

SEC("fentry/security_sock_graft")
int BPF_PROG(fe_sock_graft, struct sock *sk, struct socket *parent)
{
	STEADY(accepted(sk));
	return 0;
}

/* where the kernel has it: inet_listen and MPTCP's listen both go through it */
SEC("fentry/__inet_listen_sk")
int BPF_PROG(fe_relisten_sk, struct sock *sk, int backlog)
{
	STEADY(listen_again(sk, backlog));
	return 0;
}

SEC("fentry/inet_listen")
int BPF_PROG(fe_relisten, struct socket *sock, int backlog)
{
	STEADY(kernel_listen(sock, backlog));
	return 0;
}

SEC("fexit/inet_dgram_connect")
int BPF_PROG(fe_dgram, struct socket *sock, void *addr, int len, int flags, int ret)
{
	STEADY(kernel_dgram_connect(sock, ret));
	return 0;
}

SEC("fentry/inet_release")
int BPF_PROG(fe_inet_release, struct socket *sock)
{
	STEADY(socket_released(sock));
	return 0;
}

SEC("fentry/security_file_receive")
int BPF_PROG(fe_receive, struct file *file)
{
	STEADY(file_received(file));
	return 0;
}

SEC("fentry/udp_sendmsg")
int BPF_PROG(fe_udp_sendmsg, struct sock *sk, struct msghdr *msg)
{
	STEADY(kernel_datagram(sk, msg));
	return 0;
}

SEC("fentry/udpv6_sendmsg")
int BPF_PROG(fe_udp6_sendmsg, struct sock *sk, struct msghdr *msg)
{
	STEADY(kernel_datagram(sk, msg));
	return 0;
}

SEC("fexit/udp_sendmsg")
int BPF_PROG(fe_udp_sent, struct sock *sk, struct msghdr *msg, u64 len, int ret)
{
	STEADY(datagram_ends(ret));
	return 0;
}

SEC("fexit/udpv6_sendmsg")
int BPF_PROG(fe_udp6_sent, struct sock *sk, struct msghdr *msg, u64 len, int ret)
{
	STEADY(datagram_ends(ret));
	return 0;
}

/* ---- kprobe and kretprobe ---- */

SEC("kprobe/__inet_bind")
int BPF_KPROBE(kp_inet_bind, struct sock *sk, void *addr)
{
	call_begins((u64)sk, (u64)addr, 0);
	return 0;
}

SEC("kretprobe/__inet_bind")
int BPF_KRETPROBE(kr_inet_bind, int ret)
{
	kprobe_bind_ends(ret);
	return 0;
}

SEC("kprobe/__inet6_bind")
int BPF_KPROBE(kp_inet6_bind, struct sock *sk, void *addr)
{
	call_begins((u64)sk, (u64)addr, 0);
	return 0;
}

SEC("kretprobe/__inet6_bind")
int BPF_KRETPROBE(kr_inet6_bind, int ret)
{
	kprobe_bind_ends(ret);
	return 0;
}

SEC("kprobe/inet_csk_listen_start")
int BPF_KPROBE(kp_listen, struct sock *sk)
{
	call_begins((u64)sk, 0, 0);
	return 0;
}

SEC("kretprobe/inet_csk_listen_start")
int BPF_KRETPROBE(kr_listen, int ret)
{
	kprobe_listen_ends(ret);
	return 0;
}

SEC("kprobe/tcp_v4_connect")
int BPF_KPROBE(kp_v4_connect, struct sock *sk, void *addr)
{
	call_begins((u64)sk, (u64)addr, 0);
	return 0;
}

SEC("kretprobe/tcp_v4_connect")
int BPF_KRETPROBE(kr_v4_connect, int ret)
{
	kprobe_connect_ends(ret);
	return 0;
}

SEC("kprobe/tcp_v6_connect")
int BPF_KPROBE(kp_v6_connect, struct sock *sk, void *addr)
{
	call_begins((u64)sk, (u64)addr, 0);
	return 0;
}

/* For a mapped address tcp_v4_connect was called inside: it took the call and told. */
SEC("kretprobe/tcp_v6_connect")
int BPF_KRETPROBE(kr_v6_connect, int ret)
{
	kprobe_connect_ends(ret);
	return 0;
}

SEC("kprobe/security_sock_graft")
int BPF_KPROBE(kp_sock_graft, struct sock *sk)
{
	accepted(sk);
	return 0;
}

SEC("kprobe/__inet_listen_sk")
int BPF_KPROBE(kp_relisten_sk, struct sock *sk, int backlog)
{
	listen_again(sk, backlog);
	return 0;
}

SEC("kprobe/inet_listen")
int BPF_KPROBE(kp_relisten, struct socket *sock, int backlog)
{
	kernel_listen(sock, backlog);
	return 0;
}

SEC("kprobe/inet_dgram_connect")
int BPF_KPROBE(kp_dgram, struct socket *sock)
{
	call_begins((u64)sock, 0, 0);
	return 0;
}

SEC("kretprobe/inet_dgram_connect")
int BPF_KRETPROBE(kr_dgram, int ret)
{
	kprobe_dgram_ends(ret);
	return 0;
}

SEC("kprobe/inet_release")
int BPF_KPROBE(kp_inet_release, struct socket *sock)
{
	socket_released(sock);
	return 0;
}

SEC("kprobe/security_file_receive")
int BPF_KPROBE(kp_receive, struct file *file)
{
	file_received(file);
	return 0;
}

SEC("kprobe/udp_sendmsg")
int BPF_KPROBE(kp_udp_sendmsg, struct sock *sk, struct msghdr *msg)
{
	kernel_datagram(sk, msg);
	return 0;
}

SEC("kprobe/udpv6_sendmsg")
int BPF_KPROBE(kp_udp6_sendmsg, struct sock *sk, struct msghdr *msg)
{
	kernel_datagram(sk, msg);
	return 0;
}

SEC("kretprobe/udp_sendmsg")
int BPF_KRETPROBE(kr_udp_sent, int ret)
{
	datagram_ends(ret);
	return 0;
}

SEC("kretprobe/udpv6_sendmsg")
int BPF_KRETPROBE(kr_udp6_sent, int ret)
{
	datagram_ends(ret);
	return 0;
}

/* ---- tracepoints and cgroup programs: where kernel functions cannot be hooked ---- */

SEC("tracepoint/syscalls/sys_enter_bind")
int se_bind(struct sys_enter_args *ctx)
{
	call_begins(0, ctx->args[1], ctx->args[0]);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_bind")
int sx_bind(struct sys_exit_args *ctx)
{
	syscall_bind_ends(ctx->ret);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_listen")
int se_listen(struct sys_enter_args *ctx)
{
	call_begins(0, 0, ctx->args[0]);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_listen")
int sx_listen(struct sys_exit_args *ctx)
{
	syscall_listen_ends(ctx->ret);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_connect")
int se_connect(struct sys_enter_args *ctx)
{
	call_begins(0, ctx->args[1], ctx->args[0]);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_connect")
int sx_connect(struct sys_exit_args *ctx)
{
	syscall_connect_ends(ctx->ret);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_accept")
int sx_accept(struct sys_exit_args *ctx)
{
	accepted_fd(ctx->ret);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_accept4")
int sx_accept4(struct sys_exit_args *ctx)
{
	accepted_fd(ctx->ret);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_recvmsg")
int se_recvmsg(struct sys_enter_args *ctx)
{
	recvmsg_begins(ctx->args[0], ctx->args[1]);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_recvmsg")
int sx_recvmsg(struct sys_exit_args *ctx)
{
	recvmsg_ends(ctx->ret);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_pidfd_getfd")
int sx_pidfd_getfd(struct sys_exit_args *ctx)
{
	fd_received(ctx->ret);
	return 0;
}

/* since 6.15 */
SEC("tp_btf/io_uring_complete")
int BPF_PROG(tp_uring_cqe, void *ring, struct io_kiocb *req, struct io_uring_cqe *cqe)
{
	STEADY(uring_complete(req, BPF_CORE_READ(cqe, res)));
	return 0;
}

/* 5.17 to 6.14 */
SEC("tp_btf/io_uring_complete")
int BPF_PROG(tp_uring_res, void *ring, struct io_kiocb *req, u64 user_data, int res)
{
	STEADY(uring_complete(req, res));
	return 0;
}

/* since 6.3; after it was sent, or was not */
SEC("tp_btf/sock_send_length")
int BPF_PROG(tp_send, struct sock *sk, int ret, int flags)
{
	if (sk->sk_protocol == IPPROTO_UDP)
		STEADY(send_returned(sk, ret); first_took(MARK_SEND, sk, ret));
	return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(tp_send_twin, struct sock *sk, int ret, int flags)
{
	if (sk->sk_protocol == IPPROTO_UDP && !seen_by_first(MARK_SEND, sk, ret))
		STEADY(send_returned(sk, ret));
	return 0;
}

/*
 * The socket behind a pointer that the verifier watches (the context of a sock program is the
 * socket): as a plain number it may be a map's key and be read by probes, like any other form's.
 */
static __always_inline struct sock *plain(void *watched)
{
	struct sock *sk = NULL;

	bpf_probe_read_kernel(&sk, sizeof(sk), &watched);
	return sk;
}

SEC("cgroup/sock_release")
int cg_sock_release(struct bpf_sock *ctx)
{
	released(plain(ctx));
	return 1;
}

SEC("cgroup/sendmsg4")
int cg_sendmsg4(struct bpf_sock_addr *ctx)
{
	struct request req = { .known = true, .port = bpf_ntohs(ctx->user_port) };

	set_v4(&req.addr, ctx->user_ip4);
	datagram(plain(ctx->sk), &req, !sends_end);
	return 1;
}

SEC("cgroup/sendmsg6")
int cg_sendmsg6(struct bpf_sock_addr *ctx)
{
	struct request req = { .known = true, .port = bpf_ntohs(ctx->user_port) };

	req.addr.w[0] = ctx->user_ip6[0];
	req.addr.w[1] = ctx->user_ip6[1];
	req.addr.w[2] = ctx->user_ip6[2];
	req.addr.w[3] = ctx->user_ip6[3];
	datagram(plain(ctx->sk), &req, !sends_end);
	return 1;
}
