// SPDX-License-Identifier: Apache-2.0
//
// crowd N PORT: N processes that wait for a byte on standard input. Who reads one connects to 127.0.0.1:PORT, sends
// a byte, reads one, closes, and writes a byte to standard output. One more byte says that all have begun. The kernel
// wakes the reader that waited longest, so each has its turn. It is C because 10,000 Go programs do not fit a machine.
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

static void check(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		_exit(1);
	}
}

static void work(const struct sockaddr_in *to)
{
	char byte;

	while (read(0, &byte, 1) == 1) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		check(fd >= 0, "crowd: socket");
		check(!connect(fd, (const struct sockaddr *)to, sizeof(*to)), "crowd: connect");
		check(write(fd, &byte, 1) == 1 && read(fd, &byte, 1) == 1, "crowd: exchange");
		close(fd);
		check(write(1, &byte, 1) == 1, "crowd: write");
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int n = argc == 3 ? atoi(argv[1]) : 0;

	if (!n) {
		fputs("usage: crowd N PORT\n", stderr);
		return 2;
	}
	to.sin_port = htons(atoi(argv[2]));
	for (int i = 0; i < n; i++) {
		pid_t pid = fork();

		check(pid >= 0, "crowd: fork");
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			work(&to);
		}
	}
	check(write(1, "", 1) == 1, "crowd: write");
	while (wait(NULL) > 0)
		;
	return 0;
}
