// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestKernelServers traces real servers and clients with the real program: each connection's two ends
// against what the programs themselves say about it, each count exact.
func TestKernelServers(t *testing.T) {
	needRoot(t)
	for _, tc := range []struct {
		name     string
		programs []string
		scene    func(*world)
	}{
		{"python", []string{"python3", "curl"}, pythonScene},
		{"go", []string{"curl"}, goScene},
		{"nginx", []string{"nginx", "curl"}, nginxScene},
		{"redis", []string{"redis-server", "redis-cli"}, redisScene},
		{"node", []string{"node", "curl"}, nodeScene},
		{"postgres", []string{postgresBin("initdb"), postgresBin("postgres"), postgresBin("psql")}, postgresScene},
		{"chromium", []string{"chromium"}, chromiumScene},
	} {
		t.Run(tc.name, func(t *testing.T) {
			needPrograms(t, tc.programs...)
			for _, form := range forms() {
				t.Run(form, func(t *testing.T) { tc.scene(newWorld(t, form)) })
			}
		})
	}
}

// pythonScene: the port that the program prints is the one that is recorded.
func pythonScene(w *world) {
	cmd := exec.Command("python3", "-u", "-m", "http.server", "0", "--bind", "127.0.0.1")
	cmd.Dir = w.t.TempDir()
	python := w.start(cmd)
	port := number(w.t, python.expect(`^Serving HTTP on 127\.0\.0\.1 port (\d+)`)[1])
	server := python.identity()
	var conns []connection
	for range 5 {
		c, _ := w.curl(port, "/")
		c.listener, c.acceptor = server, server
		c.closedBy = "" // both may: the server does not keep it, and the client knows that
		conns = append(conns, c)
	}
	python.stop(syscall.SIGTERM)

	w.finish(len(conns))
	w.wantSockets(listening{by: server, port: port, requested: 0, release: "exit <nil> SIGTERM"})
	w.wantConnections(port, conns...)
}

// goScene: a listener of MPTCP, as net.Listen makes them, with a client of TCP and one of MPTCP.
func goScene(w *world) {
	program, port := w.goServer()
	server := program.identity()
	var conns []connection
	for range 5 {
		c, _ := w.curl(port, "/")
		conns = append(conns, c, w.dialMultipath(port))
	}
	for i := range conns {
		conns[i].listener, conns[i].acceptor = server, server
	}
	program.stop(syscall.SIGTERM)

	w.finish(len(conns))
	w.wantSockets(listening{by: server, port: port, requested: 0, release: "close <nil> <nil>", probes: true})
	w.wantConnections(port, conns...)
}

const nginxConf = `daemon off;
worker_processes 2;
error_log stderr notice;
pid %[1]s/pid;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen 127.0.0.1:%[2]d;
		location / { return 200 "$pid"; }
	}
}
`

// nginxScene: the master listens, a worker accepts. Each answer names the worker that gave it.
func nginxScene(w *world) {
	const (
		port     = 8080 // nginx takes no port 0
		requests = 40   // with a few, one worker often gets them all
	)
	dir := w.t.TempDir()
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir, port), 0o600); err != nil {
		w.t.Fatal(err)
	}
	nginx := w.start(exec.Command("nginx", "-c", conf, "-p", dir))
	workers := map[string]who{}
	for range 2 {
		pid := nginx.expect(`start worker process (\d+)`)[1]
		workers[pid] = identify(w.t, number(w.t, pid))
	}
	master := nginx.identity()
	holders := append(slices.Collect(maps.Values(workers)), master)
	var conns []connection
	for range requests {
		c, body := w.curl(port, "/")
		worker, ok := workers[body]
		if !ok {
			w.t.Fatalf("%q answered, the workers are %v", body, workers)
		}
		c.listener, c.acceptor, c.holders = master, worker, holders
		conns = append(conns, c)
	}
	nginx.stop(syscall.SIGTERM)

	w.finish(len(conns))
	// nginx calls listen() once more when it has read its whole configuration.
	w.wantSockets(listening{by: master, port: port, requested: port, listens: 2, release: "close <nil> <nil>"})
	w.wantConnections(port, conns...)
}

// redisScene: the server itself tells which port each client had.
func redisScene(w *world) {
	const port = 6390
	redis := w.start(exec.Command("redis-server", "--port", fmt.Sprint(port), "--bind", "127.0.0.1",
		"--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", w.t.TempDir()))
	redis.expect(`Ready to accept connections`)
	server := redis.identity()
	var conns []connection
	for range 3 {
		client, out := w.run("redis-cli", "-h", "127.0.0.1", "-p", fmt.Sprint(port), "client", "list")
		conns = append(conns, connection{
			client: client, port: number(w.t, find(w.t, ` addr=127\.0\.0\.1:(\d+)`, out)[1]),
			listener: server, acceptor: server, closedBy: "client",
		})
	}
	redis.stop(syscall.SIGTERM)

	w.finish(len(conns))
	w.wantSockets(listening{by: server, port: port, requested: port, release: "close <nil> <nil>"})
	w.wantConnections(port, conns...)
}

const nodeServer = `const server = require("http").createServer((_, res) => res.end("hello\n"));
server.listen(0, "127.0.0.1", () => console.log("port", server.address().port));`

func nodeScene(w *world) {
	node := w.start(exec.Command("node", "-e", nodeServer))
	port := number(w.t, node.expect(`^port (\d+)$`)[1])
	server := node.identity()
	var conns []connection
	for range 5 {
		c, _ := w.curl(port, "/")
		c.listener, c.acceptor = server, server
		conns = append(conns, c)
	}
	node.stop(syscall.SIGTERM)

	w.finish(len(conns))
	w.wantSockets(listening{by: server, port: port, requested: 0, release: "exit <nil> SIGTERM"})
	w.wantConnections(port, conns...)
}

// postgresBin gives the path of a program of PostgreSQL: Debian keeps them out of PATH, and has
// wrappers in it.
func postgresBin(name string) string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name) // its one error is about the pattern
	if len(found) == 0 {
		return name
	}
	return found[len(found)-1]
}

// postgresScene: the postmaster listens and accepts, and the process that it forks holds the socket
// and closes it. The one that accepted stays the connection's server.
func postgresScene(w *world) {
	const port = 5440
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534} // it refuses to run as root
	dir := w.t.TempDir()
	for _, path := range []string{dir, filepath.Dir(dir)} {
		if err := errors.Join(os.Chown(path, int(nobody.Uid), int(nobody.Gid)), os.Chmod(path, 0o700)); err != nil {
			w.t.Fatal(err)
		}
	}
	initdb := exec.Command(postgresBin("initdb"), "-D", dir, "-U", "postgres", "-A", "trust", "--no-sync", "--locale=C")
	initdb.Dir, initdb.SysProcAttr = dir, &syscall.SysProcAttr{Credential: nobody}
	if out, err := initdb.CombinedOutput(); err != nil {
		w.t.Fatalf("initdb: %v\n%s", err, out)
	}
	cmd := exec.Command(postgresBin("postgres"), "-D", dir, "-p", fmt.Sprint(port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=")
	cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: nobody}
	postgres := w.start(cmd)
	postgres.expect(`database system is ready to accept connections`)
	postmaster := postgres.identity()
	var conns []connection
	for range 3 {
		client, out := w.run(postgresBin("psql"), "-X", "-h", "127.0.0.1", "-p", fmt.Sprint(port), "-U", "postgres", "-Atc",
			"select inet_client_port()", "postgres")
		conns = append(conns, connection{
			client: client, port: number(w.t, strings.TrimSpace(out)),
			listener: postmaster, acceptor: postmaster, // and who closes first is open: psql says goodbye before it does
		})
	}
	postgres.stop(syscall.SIGINT) // a fast shutdown: SIGTERM waits for its clients

	w.finish(len(conns))
	w.wantSockets(listening{by: postmaster, port: port, requested: port, release: "close <nil> <nil>"})
	w.wantConnections(port, conns...)
}

// chromiumScene: the socket is opened by a thread, with a name of its own, of one of the browser's
// many processes. While the server holds its answer back, the table of open files tells of which.
func chromiumScene(w *world) {
	server, port := w.goServer()
	home := w.t.TempDir()
	cmd := exec.Command("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
		"--user-data-dir="+home, "--dump-dom", fmt.Sprintf("http://127.0.0.1:%d/held", port))
	cmd.Env = append(os.Environ(), "HOME="+home)
	browser := w.start(cmd)
	held := number(w.t, server.expect(`^held 127\.0\.0\.1:(\d+)$`)[1])
	client := identify(w.t, w.holder(held))
	threads := threadNames(w.t, client.pid)
	listener := server.identity()
	if client.pid == browser.cmd.Process.Pid || client.comm != "chromium" {
		w.t.Fatalf("%+v fetches the page: not a process of the browser's for that", client)
	}
	server.say("go on")
	browser.expect(`hello`)
	browser.wait()
	server.stop(syscall.SIGTERM)

	var conns []connection
	for _, line := range server.seen { // how many it opens is the browser's to decide, and the server's to count
		if from, ok := strings.CutPrefix(line, "connection 127.0.0.1:"); ok {
			conns = append(conns, connection{client: client, port: number(w.t, from), listener: listener, acceptor: listener})
		}
	}
	w.finish(len(conns))
	w.wantConnections(port, conns...)
	for _, r := range w.own() { // and what it binds besides is its own
		if pid := r.pick("process.pid"); r.at("process") != nil && pid != fmt.Sprint(listener.pid) && r.at("process.comm") != client.comm {
			w.t.Errorf("%s is none of the browser's: %s", pid, r.text)
		}
	}
	for _, r := range w.own("connect") {
		if name, _ := r.at("client.process.thread.name").(string); !slices.Contains(threads, name) || name == client.comm {
			w.t.Errorf("thread %q made the connection of %+v, whose threads are %q", name, client, threads)
		}
	}
}

// goServerEnv makes TestGoServer the server. It is run by the name of a test, since what this test
// binary does under other names is listed in TestMain, and is about scripts.
const goServerEnv = "LOOPTRACE_TEST_GO_SERVER"

// goServer starts one and gives its port.
func (w *world) goServer() (*program, int) {
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestGoServer$")
	cmd.Env = append(os.Environ(), goServerEnv+"=1")
	server := w.start(cmd)
	at := server.expect(`^listening 127\.0\.0\.1:(\d+) mptcp (\w+)$`)
	if at[2] != fmt.Sprint(hasMultipath()) {
		w.t.Errorf("the listener is of MPTCP: %s; the kernel has it: %t", at[2], hasMultipath())
	}
	return server, number(w.t, at[1])
}

// TestGoServer is not a test: it is the Go server of TestKernelServers, in a process of its own. It tells
// of each connection, and holds the answer for /held back until a line comes in.
func TestGoServer(t *testing.T) {
	if os.Getenv(goServerEnv) == "" {
		return
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("listening", l.Addr(), "mptcp", isMultipath(t, l.(*net.TCPListener)))
	in := bufio.NewReader(os.Stdin)
	server := &http.Server{
		Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/held" {
				fmt.Println("held", r.RemoteAddr)
				_, _ = in.ReadString('\n') // the end of the input lets go too
			}
			_, _ = io.WriteString(rw, "hello\n")
		}),
		ConnState: func(c net.Conn, s http.ConnState) {
			if s == http.StateNew {
				fmt.Println("connection", c.RemoteAddr())
			}
		},
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() { // ends with the process
		<-stop
		_ = server.Close()
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

func find(t *testing.T, pattern, text string) []string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %q in %q", pattern, text)
	}
	return m
}
