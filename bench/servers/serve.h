// serve.h: what the C servers share. A server is started as
//
//   NAME ADDRESS THREADS [TARGET]
//
// ADDRESS and TARGET are IPv4 address and port; port 0 lets the kernel choose. It prints the bound
// address on a line of its own and serves until it is killed.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_THREADS = 64, MAX_FDS = 1 << 20, BACKLOG = 4096 };

static inline void die(const char *what) {
	perror(what);
	exit(1);
}

static inline struct sockaddr_in address(const char *text) {
	char host[64];
	unsigned port;
	struct sockaddr_in a = {.sin_family = AF_INET};
	if (sscanf(text, "%63[^:]:%u", host, &port) != 2 || inet_pton(AF_INET, host, &a.sin_addr) != 1) {
		fprintf(stderr, "not an address: %s\n", text);
		exit(2);
	}
	a.sin_port = htons((uint16_t)port);
	return a;
}

// listen_on makes a listener of its own for each thread, all on one port.
static inline int listen_on(struct sockaddr_in *a, int flags) {
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0), one = 1;
	if (fd < 0) die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); // what is accepted inherits it
	if (bind(fd, (struct sockaddr *)a, sizeof *a) < 0) die("bind");
	if (listen(fd, BACKLOG) < 0) die("listen");
	socklen_t length = sizeof *a;
	if (getsockname(fd, (struct sockaddr *)a, &length) < 0) die("getsockname");
	return fd;
}

// descriptors is how many this process may have open.
static inline size_t descriptors(void) {
	struct rlimit l;
	if (getrlimit(RLIMIT_NOFILE, &l) < 0) die("getrlimit");
	l.rlim_cur = l.rlim_max;
	setrlimit(RLIMIT_NOFILE, &l);
	return l.rlim_cur < MAX_FDS ? (size_t)l.rlim_cur : MAX_FDS;
}

// serve runs loop in THREADS threads, each with a listener.
static inline int serve(int argc, char **argv, int listener_flags, void *(*loop)(void *)) {
	if (argc < 3) {
		fprintf(stderr, "usage: %s ADDRESS THREADS [TARGET]\n", argv[0]);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	struct sockaddr_in a = address(argv[1]);
	int threads = atoi(argv[2]);
	if (threads < 1 || threads > MAX_THREADS) return 2;
	int listeners[MAX_THREADS];
	for (int i = 0; i < threads; i++) listeners[i] = listen_on(&a, listener_flags);
	char host[64];
	printf("%s:%d\n", inet_ntop(AF_INET, &a.sin_addr, host, sizeof host), ntohs(a.sin_port));
	fflush(stdout);
	for (int i = 1; i < threads; i++) {
		pthread_t t;
		if (pthread_create(&t, NULL, loop, (void *)(intptr_t)listeners[i]) != 0) die("pthread_create");
	}
	loop((void *)(intptr_t)listeners[0]);
	return 1;
}
