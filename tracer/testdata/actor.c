// SPDX-License-Identifier: Apache-2.0
/*
 * A process that makes the socket calls of a scene, one at a time, as it is told: the twin of the
 * actor in actor_test.go for what a Go program cannot do (fork without exec, clone with a chosen
 * number, io_uring, threads of its own) and for scenes with hundreds of processes, since it starts
 * in a millisecond. Same language, over a UNIX socket: one line a call, one line its result. A
 * fork's child dials its own.
 *
 *   actor PATH               dial the driver at PATH
 *   actor PATH FD NAME=N ... go on at FD with these descriptors (0: dial the driver), after exec
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/sched.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
/* since 6.11, after Debian 12's headers */
#define URING_BIND 56
#define URING_LISTEN 57

#define MAX_FDS 1024
#define NAME 24
#define MAX_WORDS 64

static struct {
	char name[NAME];
	int fd;
} fds[MAX_FDS];
static int n_fds;
static pthread_mutex_t fds_lock = PTHREAD_MUTEX_INITIALIZER;

static const char *driver; /* where the driver listens */
static int control; /* the connection to it */
static int inbox; /* descriptors come here */

static void die(const char *what)
{
	fprintf(stderr, "actor %d: %s: %s\n", getpid(), what, strerror(errno));
	_exit(99);
}

static int fd_of(const char *name)
{
	int fd = -1;

	pthread_mutex_lock(&fds_lock);
	for (int i = 0; i < n_fds; i++)
		if (!strcmp(fds[i].name, name))
			fd = fds[i].fd;
	pthread_mutex_unlock(&fds_lock);
	return fd;
}

static void forget_fd(const char *name)
{
	pthread_mutex_lock(&fds_lock);
	for (int i = 0; i < n_fds; i++)
		if (!strcmp(fds[i].name, name)) {
			fds[i] = fds[--n_fds];
			break;
		}
	pthread_mutex_unlock(&fds_lock);
}

static int keep_fd(const char *name, int fd)
{
	if (fd < 0)
		return fd;
	forget_fd(name);
	pthread_mutex_lock(&fds_lock);
	if (n_fds == MAX_FDS)
		die("too many descriptors");
	snprintf(fds[n_fds].name, NAME, "%s", name);
	fds[n_fds++].fd = fd;
	pthread_mutex_unlock(&fds_lock);
	return fd;
}

static socklen_t inbox_address(struct sockaddr_un *un, int pid)
{
	memset(un, 0, sizeof(*un));
	un->sun_family = AF_UNIX;
	return offsetof(struct sockaddr_un, sun_path) + 1 +
	       snprintf(un->sun_path + 1, sizeof(un->sun_path) - 1, "looptrace-actor-%d", pid);
}

/* Tells the driver who this is, on a connection of its own. */
static void join(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	socklen_t len;

	control = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", driver);
	if (connect(control, (void *)&un, sizeof(un)))
		die("dial the driver");
	inbox = socket(AF_UNIX, SOCK_DGRAM, 0);
	len = inbox_address(&un, getpid());
	if (bind(inbox, (void *)&un, len))
		die("bind the inbox");
}

/* An address for the socket's own family: IPv4 is mapped on an IPv6 socket. */
static socklen_t address(int fd, const char *text, struct sockaddr_in6 *sa)
{
	struct sockaddr_in *v4 = (void *)sa;
	char host[64];
	const char *colon = strrchr(text, ':');
	int family = AF_INET;
	socklen_t len = sizeof(family);

	memset(sa, 0, sizeof(*sa));
	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len);
	if (*text == '[')
		snprintf(host, sizeof(host), "%.*s", (int)(colon - text) - 2, text + 1);
	else
		snprintf(host, sizeof(host), "%s%.*s", family == AF_INET6 ? "::ffff:" : "",
			 (int)(colon - text), text);
	sa->sin6_family = family;
	sa->sin6_port = htons(atoi(colon + 1));
	if (family == AF_INET6) {
		inet_pton(AF_INET6, host, &sa->sin6_addr);
		return sizeof(*sa);
	}
	inet_pton(AF_INET, host, &v4->sin_addr);
	return sizeof(*v4);
}

static int sock_open(char **w, int n)
{
	int family = w[2][strlen(w[2]) - 1] == '6' ? AF_INET6 : AF_INET;
	int type = strncmp(w[2], "udp", 3) ? SOCK_STREAM : SOCK_DGRAM;
	int proto = strncmp(w[2], "mptcp", 5) ? 0 : IPPROTO_MPTCP;

	return keep_fd(w[1], socket(family, type | (n > 3 ? 0 : SOCK_CLOEXEC), proto));
}

static int sock_set(int fd, char **w)
{
	struct linger linger = { .l_onoff = 1 };
	int one = 1;

	if (!strcmp(w[2], "reuseaddr"))
		return setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (!strcmp(w[2], "reuseport"))
		return setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (!strcmp(w[2], "nodelay"))
		return setsockopt(fd, SOL_TCP, TCP_NODELAY, &one, sizeof(one));
	if (!strcmp(w[2], "v6only"))
		return setsockopt(fd, SOL_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (!strcmp(w[2], "noport"))
		return setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	/* The group's second socket takes every connection (socket(7), SO_ATTACH_REUSEPORT_CBPF). */
	if (!strcmp(w[2], "steer1")) {
		struct sock_filter second = { BPF_RET | BPF_K, 0, 0, 1 };
		struct sock_fprog prog = { 1, &second };

		return setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &prog, sizeof(prog));
	}
	if (!strcmp(w[2], "linger0"))
		return setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	errno = ENOPROTOOPT;
	return -1;
}

static int sock_connect(int fd, const char *to)
{
	struct sockaddr_in6 sa;
	socklen_t len = address(fd, to, &sa);

	return connect(fd, (void *)&sa, len);
}

static int disconnect(int fd)
{
	struct sockaddr sa = { .sa_family = AF_UNSPEC };

	return connect(fd, &sa, sizeof(sa));
}

/* Waits for the end of a connect() that did not block. */
static int finish(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	int error = 0;
	socklen_t len = sizeof(error);

	if (poll(&p, 1, -1) < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len))
		return -1;
	errno = error;
	return error ? -1 : 0;
}

static int sock_name(int fd, char *out, size_t size)
{
	struct sockaddr_in6 sa;
	struct sockaddr_in *v4 = (void *)&sa;
	socklen_t len = sizeof(sa);
	char host[INET6_ADDRSTRLEN];

	if (getsockname(fd, (void *)&sa, &len))
		return -1;
	if (sa.sin6_family == AF_INET) {
		inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
		snprintf(out, size, "%s:%d", host, ntohs(v4->sin_port));
		return 0;
	}
	inet_ntop(AF_INET6, &sa.sin6_addr, host, sizeof(host));
	if (IN6_IS_ADDR_V4MAPPED(&sa.sin6_addr))
		snprintf(out, size, "%s:%d", host + 7, ntohs(sa.sin6_port));
	else
		snprintf(out, size, "[%s]:%d", host, ntohs(sa.sin6_port));
	return 0;
}

/* Reads so many bytes, fewer where they do not come within 3 s: the driver waits for no longer. */
static int recv_all(int fd, char *buf, int len)
{
	struct timeval patience = { .tv_sec = 3 }, none = { 0 };
	int got;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	got = recv(fd, buf, len, MSG_WAITALL);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
	return got;
}

/* give NAME PID, take NAME: SCM_RIGHTS (unix(7)). */
static int give(int fd, int pid)
{
	char space[CMSG_SPACE(sizeof(int))] = {}, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct sockaddr_un un;
	struct msghdr m = {
		.msg_name = &un,
		.msg_namelen = inbox_address(&un, pid),
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = space,
		.msg_controllen = sizeof(space),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return sendmsg(inbox, &m, 0) < 0 ? -1 : 0;
}

static int take(const char *name)
{
	char space[CMSG_SPACE(sizeof(int))] = {}, byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = space,
			    .msg_controllen = sizeof(space) };
	int fd;

	if (recvmsg(inbox, &m, MSG_CMSG_CLOEXEC) < 0)
		return -1;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return keep_fd(name, fd);
}

/* getfd NAME PID FD: pidfd_getfd(2). */
static int get_fd(char **w)
{
	int pidfd = syscall(SYS_pidfd_open, atoi(w[2]), 0), fd, err;

	if (pidfd < 0)
		return -1;
	fd = syscall(SYS_pidfd_getfd, pidfd, atoi(w[3]), 0);
	err = errno;
	close(pidfd);
	errno = err;
	return keep_fd(w[1], fd);
}

/* Forks, with a number of the caller's choice if it names one (clone3, since 5.5). */
static int fork_as(int pid)
{
	int old_control = control, old_inbox = inbox;
	pid_t want = pid;
	struct clone_args args = { .exit_signal = SIGCHLD };
	long child;

	if (pid) {
		args.set_tid = (unsigned long)&want;
		args.set_tid_size = 1;
		child = syscall(SYS_clone3, &args, sizeof(args));
	} else {
		child = fork();
	}
	if (child)
		return child;
	close(old_control);
	close(old_inbox);
	join();
	return 0;
}

static void become(const char *path)
{
	static char words[MAX_FDS + 3][2 * NAME];
	char *argv[MAX_FDS + 4] = { (char *)path, (char *)driver };
	int n = 2;

	close(inbox);
	snprintf(words[n], sizeof(words[n]), "%d", control);
	argv[n] = words[n];
	n++;
	for (int i = 0; i < n_fds; i++) {
		if (fcntl(fds[i].fd, F_GETFD) & FD_CLOEXEC)
			continue;
		snprintf(words[n], sizeof(words[n]), "%.*s=%d", NAME, fds[i].name, fds[i].fd);
		argv[n] = words[n];
		n++;
	}
	execv(path, argv);
}

/* A network namespace of its own, with lo up (netdevice(7)). */
static int own_netns(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd, err;

	if (unshare(CLONE_NEWNET))
		return -1;
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	err = ioctl(fd, SIOCSIFFLAGS, &ifr);
	close(fd);
	return err;
}

/* How many of n connects are refused. */
static int refused(int n, const char *to)
{
	int count = 0;

	for (int i = 0; i < n; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		if (sock_connect(fd, to) && errno == ECONNREFUSED)
			count++;
		close(fd);
	}
	return count;
}

/* One io_uring request on a ring of its own (io_uring_setup(2), io_uring_enter(2)). */
static int uring(struct io_uring_sqe *request)
{
	struct io_uring_params p = {};
	int ring = syscall(SYS_io_uring_setup, 4, &p), res;
	char *sq, *cq;
	struct io_uring_sqe *sqes;

	if (ring < 0)
		return -1;
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe),
		  PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_CQ_RING);
	sqes = mmap(NULL, p.sq_entries * sizeof(*sqes), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || sqes == MAP_FAILED)
		return -1;
	sqes[0] = *request;
	((unsigned *)(sq + p.sq_off.array))[0] = 0;
	__atomic_store_n((unsigned *)(sq + p.sq_off.tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		return -1;
	res = ((struct io_uring_cqe *)(cq + p.cq_off.cqes))[0].res;
	close(ring);
	errno = -res;
	return res < 0 ? -1 : res;
}

/* uring bind|listen|connect|accept NAME ... */
static int uring_call(char **w)
{
	int fd = fd_of(w[2]);
	struct sockaddr_in6 sa;
	struct io_uring_sqe r = { .fd = fd };

	if (!strcmp(w[1], "bind") || !strcmp(w[1], "connect")) {
		r.opcode = *w[1] == 'b' ? URING_BIND : IORING_OP_CONNECT;
		r.off = address(fd, w[3], &sa); /* addr2: the length */
		r.addr = (unsigned long)&sa;
	} else if (!strcmp(w[1], "listen")) {
		r.opcode = URING_LISTEN;
		r.len = atoi(w[3]);
	} else {
		r.opcode = IORING_OP_ACCEPT;
		return keep_fd(w[3], uring(&r));
	}
	return uring(&r);
}

/* ---- threads ---- */

struct background {
	pthread_t thread;
	char name[16];
	char line[256];
	int ok;
};

static struct background crew[128];
static int n_crew;

static int call(char *line, char *out, size_t size);

static void *work(void *arg)
{
	struct background *b = arg;
	char out[256];

	prctl(PR_SET_NAME, b->name);
	b->ok = call(b->line, out, sizeof(out)) >= 0;
	return NULL;
}

/* thread NAME CALL: a thread of that name makes the call, which may block. */
static int start_thread(char **w, int n)
{
	struct background *b = &crew[n_crew];

	snprintf(b->name, sizeof(b->name), "%s", w[1]);
	b->line[0] = 0;
	for (int i = 2; i < n; i++) {
		strcat(b->line, w[i]);
		strcat(b->line, " ");
	}
	errno = pthread_create(&b->thread, NULL, work, b);
	if (errno)
		return -1;
	n_crew++;
	return 0;
}

/* Waits for every thread; gives how many calls succeeded. */
static int join_threads(void)
{
	int ok = 0;

	for (int i = 0; i < n_crew; i++) {
		pthread_join(crew[i].thread, NULL);
		ok += crew[i].ok;
	}
	n_crew = 0;
	return ok;
}

/* ---- the calls ---- */

#define IS(verb) (!strcmp(w[0], verb))

static char zeros[1 << 16];

static int call_socket(char **w, int n, int fd, char *out, size_t size)
{
	struct sockaddr_in6 sa;
	char buf[1 << 16];

	if (IS("nonblock"))
		return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	if (IS("set"))
		return sock_set(fd, w);
	if (IS("bind")) {
		socklen_t len = address(fd, w[2], &sa);

		return bind(fd, (void *)&sa, len);
	}
	if (IS("listen"))
		return listen(fd, atoi(w[2]));
	if (IS("connect"))
		return sock_connect(fd, w[2]);
	if (IS("disconnect"))
		return disconnect(fd);
	if (IS("finish"))
		return finish(fd);
	if (IS("accept"))
		return keep_fd(w[2], accept4(fd, NULL, NULL, SOCK_CLOEXEC));
	if (IS("send"))
		return send(fd, zeros, atoi(w[2]), MSG_NOSIGNAL);
	if (IS("sendto")) {
		socklen_t len = address(fd, w[3], &sa);

		return sendto(fd, zeros, atoi(w[2]), 0, (void *)&sa, len);
	}
	if (IS("recv"))
		return recv(fd, buf, atoi(w[2]), 0);
	if (IS("recvall")) /* recvall NAME N: N bytes, or what comes within 3 s */
		return recv_all(fd, buf, atoi(w[2]));
	if (IS("shutdown"))
		return shutdown(fd, atoi(w[2]));
	if (IS("addr"))
		return sock_name(fd, out, size);
	if (IS("give"))
		return give(fd, atoi(w[2]));
	if (IS("dup"))
		return keep_fd(w[2], dup(fd));
	if (IS("inherit"))
		return fcntl(fd, F_SETFD, 0);
	if (IS("close")) {
		forget_fd(w[1]);
		return close(fd);
	}
	fprintf(stderr, "actor: unknown call %s/%d\n", w[0], n);
	_exit(99);
}

/* Makes the call of a line; what it gives beside a number is in out. */
static int call(char *line, char *out, size_t size)
{
	char *w[MAX_WORDS] = {}, *state;
	int n = 0, ret;

	for (char *p = strtok_r(line, " ", &state); p && n < MAX_WORDS;
	     p = strtok_r(NULL, " ", &state))
		w[n++] = p;
	if (IS("exit"))
		exit(atoi(w[1]));
	if (IS("fork"))
		ret = fork_as(n > 1 ? atoi(w[1]) : 0);
	else if (IS("exec")) {
		become(w[1]);
		ret = -1;
	} else if (IS("setuid"))
		ret = setreuid(atoi(w[1]), atoi(w[1]));
	else if (IS("rename"))
		ret = prctl(PR_SET_NAME, w[1]);
	else if (IS("netns"))
		ret = own_netns();
	else if (IS("refused"))
		ret = refused(atoi(w[1]), w[2]);
	else if (IS("take"))
		ret = take(w[1]);
	else if (IS("getfd"))
		ret = get_fd(w);
	else if (IS("thread"))
		ret = start_thread(w, n);
	else if (IS("join"))
		ret = join_threads();
	else if (IS("uring"))
		ret = uring_call(w);
	else if (IS("socket"))
		ret = sock_open(w, n);
	else
		ret = call_socket(w, n, fd_of(w[1]), out, size);
	if (ret >= 0 && !*out)
		snprintf(out, size, "%d", ret);
	return ret;
}

static void say(const char *format, ...)
{
	char line[512];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (write(control, line, n) != n)
		exit(0); /* the driver is gone */
}

/* Calls in the order that they come, until the driver leaves. */
static void obey(void)
{
	char buf[1024];
	size_t have = 0;

	for (;;) {
		char out[256] = "", *end = memchr(buf, '\n', have);
		ssize_t n;

		if (!end) {
			n = read(control, buf + have, sizeof(buf) - have);
			if (n <= 0)
				exit(0);
			have += n;
			continue;
		}
		*end = 0;
		char line[1024];

		memcpy(line, buf, end - buf + 1);
		have -= end + 1 - buf;
		memmove(buf, end + 1, have);
		pid_t before = getpid();

		if (call(line, out, sizeof(out)) < 0)
			say("err %d\n", errno);
		else if (getpid() != before)
			say("ok %d\n", getpid()); /* the child, on its own connection */
		else
			say("ok %s\n", out);
	}
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	signal(SIGCHLD, SIG_IGN); /* nobody waits for them: the driver has their pidfds */
	signal(SIGPIPE, SIG_IGN);
	if (argc < 2)
		return 2;
	driver = argv[1];
	if (argc == 2) {
		join();
	} else {
		struct sockaddr_un un;
		socklen_t len;

		control = atoi(argv[2]);
		if (control) {
			inbox = socket(AF_UNIX, SOCK_DGRAM, 0);
			len = inbox_address(&un, getpid());
			bind(inbox, (void *)&un, len);
		} else {
			join();
		}
		for (int i = 3; i < argc; i++) {
			char *eq = strchr(argv[i], '=');

			*eq = 0;
			keep_fd(argv[i], atoi(eq + 1));
			*eq = '='; /* the command line is a fact that records show */
		}
	}
	say("ok %d\n", getpid());
	obey();
}
