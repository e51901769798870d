/* SPDX-License-Identifier: GPL-2.0 */
/* Every difference between kernels, each in one getter. Chosen by BTF, never by version. */
#ifndef LOOPTRACE_COMPAT_H
#define LOOPTRACE_COMPAT_H

/* 6.15 renamed kernfs_node.parent to __parent (741c10b096bc). */
struct kernfs_node___rcu {
	struct kernfs_node *__parent;
} __attribute__((preserve_access_index));

static __always_inline struct kernfs_node *kernfs_parent(struct kernfs_node *kn)
{
	struct kernfs_node___rcu *rcu = (void *)kn;

	if (bpf_core_field_exists(rcu->__parent))
		return BPF_CORE_READ(rcu, __parent);
	return BPF_CORE_READ(kn, parent);
}

struct mptcp_subflow_context {
	struct sock *conn;
} __attribute__((preserve_access_index));

/* Kernels without MPTCP (CONFIG_MPTCP=n, Debian 5.10) have no such type. */
static __always_inline bool has_mptcp(void)
{
	return bpf_core_type_exists(struct mptcp_sock);
}

/* 6.8 packed the two ends of ip_local_port_range into one number, high << 16 | low (d9f28735af87). */
struct local_ports___ends {
	int range[2];
} __attribute__((preserve_access_index));

struct local_ports___packed {
	u32 range;
} __attribute__((preserve_access_index));

static __always_inline u32 port_range(struct net *net)
{
	void *ports = &net->ipv4.ip_local_ports;
	struct local_ports___ends *ends = ports;
	struct local_ports___packed *packed = ports;

	if (bpf_core_field_exists(ends->range[1]))
		return BPF_CORE_READ(ends, range[1]) << 16 | BPF_CORE_READ(ends, range[0]);
	return BPF_CORE_READ(packed, range);
}

/*
 * Who holds a port, in the kernel's bind table: since 6.8 a port's sockets hang in a second bucket for
 * each address; before, all in one.
 */
struct inet_bind_bucket___by_address {
	struct hlist_head bhash2;
} __attribute__((preserve_access_index));

struct inet_bind2_bucket {
	struct hlist_node bhash_node;
	struct hlist_head owners;
} __attribute__((preserve_access_index));

static __always_inline struct hlist_node *next_node(struct hlist_node *n)
{
	return BPF_CORE_READ(n, next);
}

#define ENTRY(node, type, field) ((void *)(node)-bpf_core_field_offset(type, field))

/* The first bucket of a second kind; NULL where there are none. */
static __always_inline struct hlist_node *first_address(struct inet_bind_bucket *tb)
{
	struct inet_bind_bucket___by_address *two = (void *)tb;

	if (bpf_core_field_exists(two->bhash2))
		return BPF_CORE_READ(two, bhash2.first);
	return NULL;
}

/* The first socket of such a bucket. */
static __always_inline struct hlist_node *first_of_address(struct hlist_node *address)
{
	struct inet_bind2_bucket *tb2 = (void *)address;

	if (!bpf_core_field_exists(tb2->bhash_node))
		return NULL;
	tb2 = ENTRY(address, struct inet_bind2_bucket, bhash_node);
	return BPF_CORE_READ(tb2, owners.first);
}

static __always_inline struct hlist_node *first_owner(struct inet_bind_bucket *tb)
{
	if (bpf_core_field_exists(tb->owners))
		return BPF_CORE_READ(tb, owners.first);
	return NULL;
}

/* Since 6.1 each network namespace says where its table is; before, it is the protocol's. */
static __always_inline struct inet_hashinfo *tcp_table(struct sock *sk)
{
	struct net *net = BPF_CORE_READ(sk, __sk_common.skc_net.net);
	struct inet_hashinfo *table = BPF_CORE_READ(sk, __sk_common.skc_prot, h.hashinfo);

	if (!table && bpf_core_field_exists(net->ipv4.tcp_death_row.hashinfo))
		table = BPF_CORE_READ(net, ipv4.tcp_death_row.hashinfo);
	return table;
}

/* since 6.4 (6018e1f407cc): a loop whose body is verified once */
struct bpf_iter_num {
	u64 state;
};

extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym __weak;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym __weak;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym __weak;

/* since 6.10 (fc7566ad0a82) */
extern void bpf_preempt_disable(void) __ksym __weak;
extern void bpf_preempt_enable(void) __ksym __weak;

/*
 * Runs a body to its end on this CPU. The kernel skips a program that is already running there, and
 * counts a miss: without this, a task that is preempted inside a hook makes the next one's event
 * disappear. What is left is the few instructions before it, and interrupts.
 */
#define STEADY(body)                                                                               \
	do {                                                                                       \
		bool guarded = bpf_preempt_disable != NULL;                                        \
                                                                                                   \
		if (guarded)                                                                       \
			bpf_preempt_disable();                                                     \
		body;                                                                              \
		if (guarded)                                                                       \
			bpf_preempt_enable();                                                      \
	} while (0)

/*
 * A softirq that interrupts a program on a CPU may fire the same program's hook: the kernel skips it
 * there and counts a miss, and on loopback a socket's last state change is easily in such a softirq.
 * Where tracepoints can be preempted (7.x), another task may be the one. So these hooks have two programs, the second of which takes what the first was
 * skipped for. The first leaves a mark of each event that it took, as its last act; where the second
 * finds another mark it takes the event. That may be once too often (an interrupt between the two
 * leaves its own mark), so these bodies do nothing the second time.
 */
enum mark_hook { MARK_STATE, MARK_DESTROY, MARK_EXEC, MARK_FORK, MARK_EXIT, MARK_SEND, MARK_HOOKS };

struct mark {
	u64 of; /* a socket or a task */
	u32 what;
	u32 pad;
};

/* enum mark_hook -> what the first program of a hook took last on this CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MARK_HOOKS);
	__type(key, u32);
	__type(value, struct mark);
} mark_by_hook SEC(".maps");

static __always_inline void first_took(u32 hook, void *of, u32 what)
{
	struct mark *m = bpf_map_lookup_elem(&mark_by_hook, &hook);

	if (!m)
		return;
	m->of = (u64)of;
	m->what = what;
}

static __always_inline bool seen_by_first(u32 hook, void *of, u32 what)
{
	struct mark *m = bpf_map_lookup_elem(&mark_by_hook, &hook);
	bool seen = m && m->of == (u64)of && m->what == what;

	if (seen)
		m->of = 0;
	return seen;
}

/*
 * io_uring_complete changed twice: to 5.16 (ctx, user_data, res, cflags); to 6.14
 * (ctx, req, user_data, res, ...); since 6.15 (ctx, req, cqe). User space selects the program
 * by the parameter count of the tracepoint's BTF type; before 5.17 there is no opcode: none.
 */

#endif
