// SPDX-License-Identifier: Apache-2.0

package main

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/looptrace/looptrace/tracer/flow"
)

type explainScene struct {
	name     string
	programs []string
	scene    func(*watched) asked
	want     []string
	never    []string
}

// explainScenes are the questions of docs/explain.md, under its headings.
var explainScenes = []explainScene{
	{
		name: "In use, by a listener",
		scene: func(w *watched) asked {
			w.python("127.0.0.1", 8080)
			return w.inUse()
		},
		want: []string{
			`^127\.0\.0\.1:8080 is a server's port: python3.*\[\d+\] listens there$`,
			`^held by .* asked for this port$`, `^process .*http\.server 8080`, `^reach +loopback only`,
			`^in use +python3.*once.*held by python3.*listening since`, `^to do +kill \d+ +frees the port`,
		},
	},
	{
		name: "In use, by a socket that is bound and does not listen",
		scene: func(w *watched) asked {
			w.start("python3", "-c", "import socket,time; s=socket.socket(); s.bind(('127.0.0.1',8080)); time.sleep(60)")
			w.until("bind", 1, of("bind", 8080))
			return w.inUse()
		},
		want: []string{
			`^127\.0\.0\.1:8080 is bound, and nobody listens: by python3.*\[\d+\]$`,
			`^in use +python3.*held by python3.*not listening`, `^odd +python3.*never called listen\(\)`, `^to do +kill \d+`,
		},
	},
	{
		name: "In use, by a connection that outlived its listener",
		scene: func(w *watched) asked {
			w.start("python3", "-c", outlives)
			w.until("release", 1, of("release", 8080))
			return w.inUse()
		},
		want: []string{
			`^127\.0\.0\.1:8080 has no listener any more: a connection holds it, of python3.*\[\d+\]`,
			`^in use +python3.*held by a connection of python3`, `^before +python3`, `^to do +kill \d+`,
		},
	},
	{
		name: "In use, by a closed connection",
		scene: func(w *watched) asked {
			w.fail("python3", "-c", leavesTimeWait)
			w.until("close", 1, of("close", 8080))
			w.fail("python3", "-c", "import socket; s=socket.socket(); s.bind(('127.0.0.1',8080))")
			w.until("failed bind", 1, failedBind)
			return asked{target: "127.0.0.1:8080"}
		},
		want: []string{
			`^a closed connection of python3.*\(TIME_WAIT\) keeps 127\.0\.0\.1:8080 until`,
			`^in use +python3.*held by a closed connection \(TIME_WAIT\) of python3.*free in`, `^before +python3.*until`, `^to do +wait until`,
		},
	},
	{
		name: "In use, by a daemon whose parent asked for the port",
		scene: func(w *watched) asked {
			w.start("python3", "-c", becomesDaemon)
			w.until("listen", 1, of("listen", 8080))
			time.Sleep(2500 * time.Millisecond) // until explain can rely on the store to have all of it
			return w.inUse()
		},
		want: []string{
			`^127\.0\.0\.1:8080 is a server's port: python3.*\[\d+\] listens there$`,
			`^held by +python3.*\[\d+\], since \d.* python3.*\[\d+\] asked for this port and passed it on$`, `^to do +kill \d+`,
		},
		never: []string{`before anybody watched`, `had this port before`, `^before`},
	},
	{
		name: "Which program was it that the access log names?", programs: []string{"nginx", "curl"},
		scene: func(w *watched) asked {
			log := w.nginx()
			w.fail("curl", "-sS", "http://127.0.0.1:8080/report")
			w.until("close", 1, of("close", 8080))
			line, err := os.ReadFile(log)
			if err != nil {
				w.t.Fatal(err)
			}
			field := strings.Fields(string(line))
			return asked{target: field[0], at: field[1]}
		},
		want: []string{
			`^127\.0\.0\.1:\d+ was a client's source port: curl\[\d+\] dialled 127\.0\.0\.1:8080, nginx\[\d+\] from .* to .* to server, .* back`,
			`^to do +sudo looptrace explain 127\.0\.0\.1:8080`,
		},
	},
	{
		name: "Which program was it, a moment ago?", programs: []string{"curl"},
		scene: func(w *watched) asked {
			w.start("python3", "-c", keepsOpen)
			w.until("listen", 1, of("listen", 8080))
			w.fail("curl", "-sS", "http://127.0.0.1:8080/report")
			r := w.until("close", 1, of("close", 8080))
			return asked{target: fmt.Sprintf("127.0.0.1:%d", r.Conn.Client.Port)}
		},
		want: []string{
			`^127\.0\.0\.1:\d+ was a client's source port: curl\[\d+\] dialled 127\.0\.0\.1:8080, python3.*\[\d+\] from .* to .* to server, .* back`,
			`^a closed connection of curl\[\d+\] \(TIME_WAIT\) keeps 127\.0\.0\.1:\d+ until`,
			`^to do +wait until .*\n +sudo looptrace explain 127\.0\.0\.1:8080`,
		},
	},
	{
		name: "Which program sends these datagrams?",
		scene: func(w *watched) asked {
			w.start("python3", "-c", sendsDatagrams)
			r := w.until("connect", 1, of("connect", 8080))
			return asked{target: fmt.Sprint(r.Conn.Client.Port)}
		},
		want: []string{
			`^127\.0\.0\.1:\d+/udp is a client's source port: python3.*\[\d+\] dialled 127\.0\.0\.1:8080/udp, python3.*\[\d+\] from`,
			`^to do +sudo looptrace explain 127\.0\.0\.1:8080`,
		},
		never: []string{"is a server's port", "nobody"},
	},
	{
		name: "Who makes these health checks?", programs: []string{"curl", "sh"},
		scene: func(w *watched) asked {
			w.python("127.0.0.1", 8080)
			w.start("sh", "-c", "while :; do curl -s -o /dev/null http://127.0.0.1:8080/; sleep 2; done")
			w.until("fourth close", 5, of("close", 8080))
			return asked{target: "http://127.0.0.1:8080/"}
		},
		want: []string{`^visitors +curl: 5 connections, first .*, last .*, every 2\.\d+ s, each time another process of (dash|sh|bash)\[\d+\]`},
	},
	{
		name: "What is it that is refused?", programs: []string{"curl"},
		scene: func(w *watched) asked {
			server := w.python("127.0.0.1", 8080)
			_ = server.Process.Signal(syscall.SIGKILL)
			w.until("release", 1, of("release", 8080))
			for range 2 {
				w.fail("curl", "-sS", "http://127.0.0.1:8080/")
			}
			w.until("refusal", 2, of("connect", 8080))
			return asked{target: "curl: (7) Failed to connect to 127.0.0.1 port 8080 after 0 ms: Couldn't connect to server"}
		},
		want: []string{
			`^nobody has 127\.0\.0\.1:8080 now; the last to listen was python3.*, until`,
			`^refused +curl.*2 times.*python3.* listened there until .*, killed by SIGKILL`, `^before +python3.*killed by SIGKILL`,
			`^to do +starts what listened there: .*http\.server 8080`,
		},
	},
	{
		name: "Who took the port between picking it and binding it?",
		scene: func(w *watched) asked {
			out := w.fail("python3", "-c", picksAndBinds)
			port := regexp.MustCompile(`(\d+) is taken`).FindStringSubmatch(out)
			if port == nil {
				w.t.Fatal(out)
			}
			w.until("failed bind", 1, failedBind)
			return asked{target: "127.0.0.1:" + port[1]}
		},
		want: []string{
			`^in use +python3.*once`,
			`^odd +python3.*\[\d+\] let go of the port at .*, python3.*\[\d+\] took it .* later, and python3.*\[\d+\] asked for it at .* in vain`,
		},
	},
	{
		name: "Why does localhost reach the other server?", programs: []string{"curl"},
		scene: func(w *watched) asked {
			for i, addr := range []string{"127.0.0.1", "::1", "0.0.0.0"} {
				w.start("python3", "-c", sharesPort, addr)
				w.until("listen", i+1, of("listen", 8080))
			}
			return asked{target: "http://localhost:8080/"}
		},
		want: []string{
			`^127\.0\.0\.1:8080 is a server's port`, `^\[::1\]:8080 is a server's port`, `^0\.0\.0\.0:8080 is a server's port`,
			`^odd +one name, two servers: \[::1\]:8080 is python3.*\[\d+\]'s, and 127\.0\.0\.1:8080 is python3.*\[\d+\]'s$`,
			`^ +python3.* listens on 0\.0\.0\.0:8080 too, and gets no connection to 127\.0\.0\.1:8080: that is python3.*'s, whose address is more specific`,
			`give clients the address, 127\.0\.0\.1 or \[::1\], in place of localhost`,
		},
	},
	{
		name: "Is this port exposed?",
		scene: func(w *watched) asked {
			w.python("0.0.0.0", 8080)
			return asked{target: "8080"}
		},
		want: []string{`^0\.0\.0\.0:8080 is a server's port`, `^reach +open to the network: it listens on 0\.0\.0\.0:8080$`, `^expected`},
	},
	{
		name: "Who connected at that time?", programs: []string{"curl"},
		scene: func(w *watched) asked {
			w.python("127.0.0.1", 8080)
			w.fail("curl", "-sS", "-o", "/dev/null", "http://127.0.0.1:8080/")
			r := w.until("close", 1, of("close", 8080))
			return asked{target: "127.0.0.1:8080", at: r.Time.Local().Format("15:04:05")}
		},
		want: []string{
			`^127\.0\.0\.1:8080 was a server's port: python3.*\[\d+\] listened there from`,
			`^connected +curl\[\d+\]: 1 connection, at`, `^known +the store alone`,
		},
		never: []string{`frees the port`},
	},
	{
		name: "Who had it, before the recorder was killed?",
		scene: func(w *watched) asked {
			server := w.python("127.0.0.1", 8080)
			time.Sleep(1200 * time.Millisecond) // into another second than its listen's
			w.python("127.0.0.1", 9090)
			r := w.until("listen", 1, of("listen", 9090)) // as it was seen, the first server was there
			w.gap(func() {
				_ = server.Process.Kill()
				_ = server.Wait()
			})
			return asked{target: "127.0.0.1:8080", at: r.Time.Local().Format("15:04:05")}
		},
		want:  []string{`^127\.0\.0\.1:8080 was a server's port: python3.*\[\d+\] listened there from`, `^held by +python3.*asked for this port$`},
		never: []string{"nobody is known to have had"},
	},
	{
		name: "Who connected yesterday at 14:03?", programs: []string{"curl"},
		scene: func(w *watched) asked {
			server := w.python("127.0.0.1", 49342)
			w.fail("curl", "-sS", "-o", "/dev/null", "http://127.0.0.1:49342/")
			r := w.until("close", 1, of("close", 49342))
			_ = server.Process.Signal(syscall.SIGTERM)
			w.until("release", 1, of("release", 49342))
			w.stop()
			now := time.Now()
			w.age(r.Time.Sub(time.Date(now.Year(), now.Month(), now.Day()-1, 14, 3, 7, 0, time.Local)))
			return asked{target: "127.0.0.1:49342", at: "yesterday 14:03"}
		},
		want: []string{
			`^127\.0\.0\.1:49342 was a server's port: python3.*\[\d+\] listened there from \d{4}-\d\d-\d\d 14:0[23]:\d\d to \d{4}-\d\d-\d\d 14:03:\d\d$`,
			`^connected +curl\[\d+\]: 1 connection, at \d{4}-\d\d-\d\d 14:03:0[67]$`, `^known +the store alone, since \d{4}-\d\d-\d\d 14:0[23]:\d\d$`,
		},
		never: []string{`frees the port`},
	},
}

const (
	asyncioServer = "import asyncio; asyncio.run(asyncio.start_server(print, '127.0.0.1', 8080))"

	// sharesPort listens with SO_REUSEPORT, as what starts a server for each core does.
	sharesPort = `
import socket, sys, time
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1); s.bind((sys.argv[1], 8080)); s.listen(); time.sleep(60)`

	// outlives serves one client, closes the listener, and keeps the connection.
	outlives = `
import os, socket, time
s = socket.socket(); s.bind(("127.0.0.1", 8080)); s.listen()
if os.fork() == 0:
    s.close(); c = socket.create_connection(("127.0.0.1", 8080)); time.sleep(60)
a, _ = s.accept(); s.close(); time.sleep(60)`

	// keepsOpen answers, and lets the client close first, which has the TIME_WAIT then.
	keepsOpen = `
import socket, time
s = socket.socket(); s.bind(("127.0.0.1", 8080)); s.listen(); a, _ = s.accept(); a.recv(9999)
a.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"); a.recv(1); a.close(); time.sleep(60)`

	// sendsDatagrams has a port that the kernel picked as it sent the first.
	sendsDatagrams = `
import socket, time
s = socket.socket(type=socket.SOCK_DGRAM); s.bind(("127.0.0.1", 8080))
c = socket.socket(type=socket.SOCK_DGRAM); c.sendto(b"x", ("127.0.0.1", 8080)); time.sleep(60)`

	// becomesDaemon forks after listen(), and the parent exits, as nginx does.
	becomesDaemon = `
import os, socket, time
s = socket.socket(); s.bind(("127.0.0.1", 8080)); s.listen()
if os.fork(): os._exit(0)
time.sleep(60)`

	// leavesTimeWait closes first on the server's side.
	leavesTimeWait = `
import socket
s = socket.socket(); s.bind(("127.0.0.1", 8080)); s.listen()
c = socket.create_connection(("127.0.0.1", 8080)); a, _ = s.accept()
a.close(); c.recv(1); c.close(); s.close()`

	// picksAndBinds asks for a free port, lets go of it, and loses it to another process.
	picksAndBinds = `
import socket, subprocess, sys
s = socket.socket(); s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]; s.close()
other = subprocess.Popen([sys.executable, "-c", f"""
import socket, time
s = socket.socket(); s.bind(("127.0.0.1", {port})); s.listen(); print("up", flush=True); time.sleep(60)"""], stdout=subprocess.PIPE)
other.stdout.readline()
try: socket.socket().bind(("127.0.0.1", port))
except OSError: print(port, "is taken", flush=True)
other.kill()`
)

func of(event string, port uint16) func(*flow.Record) bool {
	return func(r *flow.Record) bool { return r.Event == event && r.Port == port }
}

func failedBind(r *flow.Record) bool { return r.Event == "bind" && r.Errno != 0 }

// inUse starts a server on a port that is in use, and asks about what it said.
func (w *watched) inUse() asked {
	w.t.Helper()
	said := lastLine(w.fail("python3", "-c", asyncioServer))
	w.until("failed bind", 1, failedBind)
	return asked{target: said}
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// nginx starts one that logs the client's port, and gives the path of its log.
func (w *watched) nginx() string {
	w.t.Helper()
	dir := w.t.TempDir()
	conf, log := filepath.Join(dir, "nginx.conf"), filepath.Join(dir, "access.log")
	text := fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log %[1]s/error.log; events {}
http { log_format ports '$remote_addr:$remote_port $time_iso8601 "$request" $status'; access_log %[1]s/access.log ports;
client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
server { listen 127.0.0.1:8080; location / { return 200 "hello"; } } }`, dir)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.start("nginx", "-c", conf, "-p", dir)
	w.until("listen", 1, of("listen", 8080))
	return log
}

// age moves all that the store has into the past: nobody's clock can be set back for a test. The records, the processes
// in them and the program that wrote them are real; their day is not.
func (w *watched) age(by time.Duration) {
	w.t.Helper()
	db, err := sql.Open("sqlite", w.store)
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	stamp := regexp.MustCompile(`"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"`)
	moved := func(text string) string {
		t, err := time.Parse(`"`+time.RFC3339Nano+`"`, text)
		if err != nil {
			w.t.Fatal(err)
		}
		return t.Add(-by).UTC().Format(`"2006-01-02T15:04:05.000000000Z"`)
	}
	rows, err := db.Query("SELECT id, line FROM records")
	if err != nil {
		w.t.Fatal(err)
	}
	lines := map[int]string{}
	for rows.Next() {
		var id int
		var line string
		if err := rows.Scan(&id, &line); err != nil {
			w.t.Fatal(err)
		}
		lines[id] = stamp.ReplaceAllStringFunc(line, moved)
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	for id, line := range lines {
		_, err := db.Exec("UPDATE records SET time = time - ?1, hour = (time - ?1) / ?2, line = ?3 WHERE id = ?4", by.Nanoseconds(), time.Hour.Nanoseconds(), line, id)
		if err != nil {
			w.t.Fatal(err)
		}
	}
	if _, err := db.Exec("UPDATE programs SET first = first - ?1, last = last - ?1", by.Nanoseconds()); err != nil {
		w.t.Fatal(err)
	}
}
