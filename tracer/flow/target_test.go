// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParseTarget(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   string
		want string // addresses and ports, * for any, separated by spaces
	}{
		{"port", "49342", "*:49342"},
		{"port with a colon", ":49342", "*:49342"},
		{"space around", " 49342\n", "*:49342"},
		{"highest port", "65535", "*:65535"},
		{"IPv4 and port", "127.0.0.1:49342", "127.0.0.1:49342"},
		{"gRPC", "last error: UNKNOWN: ipv4:127.0.0.1:49342: Failed to connect to remote host: Connection refused", "127.0.0.1:49342"},
		{"gRPC, its address alone", "ipv4:127.0.0.1:49342", "127.0.0.1:49342"},
		{"gRPC, IPv6", "UNAVAILABLE: ipv6:%5B::1%5D:49342: Failed to connect to remote host", "[::1]:49342"},
		{"IPv6 and port", "[::1]:49342", "[::1]:49342"},
		{"IPv6 without brackets and port", "::1:49342", "[::1]:49342"},
		{"IPv6 without brackets and short port", "::1:5432", "[::1]:5432"},
		{"IPv6 alone that ends in a number", "fd00::1:5432", "[fd00::1:5432]:*"},
		{"localhost and port", "localhost:49342", "127.0.0.1:49342 [::1]:49342"},
		{"localhost in capitals", "LocalHost:49342", "127.0.0.1:49342 [::1]:49342"},
		{"below localhost", "app.localhost:3000", "127.0.0.1:3000 [::1]:3000"},
		{"localhost", "localhost", "127.0.0.1:* [::1]:*"},
		{"IPv4", "127.0.0.1", "127.0.0.1:*"},
		{"IPv6", "::1", "[::1]:*"},
		{"IPv6 in brackets", "[::1]", "[::1]:*"},
		{"IPv6 with a zone", "fe80::1%eth0", "[fe80::1]:*"},
		{"mapped", "::ffff:127.0.0.1", "127.0.0.1:*"},
		{"mapped in hexadecimal", "::ffff:7f00:1", "127.0.0.1:*"},
		{"mapped and port", "[::ffff:127.0.0.1]:49342", "127.0.0.1:49342"},
		{"mapped without brackets and port", "::ffff:127.0.0.1:49342", "127.0.0.1:49342"},
		{"IPv4 wildcard", "0.0.0.0:8080", "*:8080"},
		{"IPv6 wildcard", "[::]:8080", "*:8080"},
		{"IPv6 wildcard without brackets", ":::8080", "*:8080"},
		{"mapped wildcard", "[::ffff:0.0.0.0]:8080", "*:8080"},
		{"star", "*:8080", "*:8080"},
		{"protocol before it", "tcp4:127.0.0.1:80", "127.0.0.1:80"},

		{"URL", "http://127.0.0.1:49342/a?b=c:1#d", "127.0.0.1:49342"},
		{"URL with localhost", "ws://localhost:3000", "127.0.0.1:3000 [::1]:3000"},
		{"URL with IPv6", "https://[::1]:8443/", "[::1]:8443"},
		{"URL with a wildcard", "http://0.0.0.0:8000/", "*:8000"},
		{"URL with userinfo", "postgres://u:p:1@127.0.0.1:5433/db", "127.0.0.1:5433"},
		{"URL with several hosts", "mongodb://127.0.0.1,127.0.0.2:27018/db", "127.0.0.1:27017 127.0.0.2:27018"},
		{"JDBC", "jdbc:postgresql://127.0.0.1/db", "127.0.0.1:5432"},
		{"default of http", "http://127.0.0.1", "127.0.0.1:80"},
		{"default of https", "HTTPS://127.0.0.1/", "127.0.0.1:443"},
		{"default of ws", "ws://127.0.0.1", "127.0.0.1:80"},
		{"default of wss", "wss://127.0.0.1", "127.0.0.1:443"},
		{"default of redis", "redis://[::1]", "[::1]:6379"},
		{"default of postgres", "postgres://127.0.0.1/db", "127.0.0.1:5432"},
		{"default of mysql", "mysql://root@127.0.0.1", "127.0.0.1:3306"},
		{"default of amqp", "amqp://127.0.0.1", "127.0.0.1:5672"},
		{"default of mongodb", "mongodb://127.0.0.1", "127.0.0.1:27017"},
		{"default with a wildcard", "http://0.0.0.0/", "*:80"},
		{"scheme without a default", "foo://127.0.0.1", "127.0.0.1:*"},

		{"Go, refused", "dial tcp 127.0.0.1:49342: connect: connection refused", "127.0.0.1:49342"},
		{"Go, refused over IPv6", "dial tcp [::1]:49342: connect: connection refused", "[::1]:49342"},
		{"Go, in a URL", `Get "http://localhost:49342/x": dial tcp 127.0.0.1:49342: connect: connection refused`, "127.0.0.1:49342 [::1]:49342"},
		{"Go, in use", "listen tcp :8080: bind: address already in use", "*:8080"},
		{"Go, both ends", "read tcp 127.0.0.1:54321->127.0.0.1:49342: read: connection reset by peer", "127.0.0.1:54321 127.0.0.1:49342"},
		{"Node.js, refused", "Error: connect ECONNREFUSED 127.0.0.1:5432\n    at TCPConnectWrap.afterConnect [as oncomplete] (node:net:1555:16)", "127.0.0.1:5432"},
		{"Node.js, refused over IPv6", "connect ECONNREFUSED ::1:5432", "[::1]:5432"},
		{"Node.js, refused elsewhere", "connect ECONNREFUSED fd00::1:5432", "[fd00::1]:5432"},
		{"Node.js, in use", "Error: listen EADDRINUSE: address already in use :::3000", "*:3000"},
		{"Node.js, in use on IPv4", "Error: listen EADDRINUSE: address already in use 0.0.0.0:3000", "*:3000"},
		{"Node.js, its object", "{ errno: -111, code: 'ECONNREFUSED', syscall: 'connect', address: '::1', port: 5432 }", "[::1]:5432"},
		{"Python, bind", "[Errno 98] error while attempting to bind on address ('127.0.0.1', 8000): address already in use", "127.0.0.1:8000"},
		{"Python, bind to all", "OSError: [Errno 98] ('', 8000)", "*:8000"},
		{"Python, IPv6", "<socket.socket fd=3, laddr=('::1', 8000, 0, 0)>", "[::1]:8000"},
		{"Python, wildcard with a zone", "('::%eth0', 8000, 0, 2)", "*:8000"},
		{"urllib3", "HTTPConnectionPool(host='localhost', port=8080): Max retries exceeded with url: /", "127.0.0.1:8080 [::1]:8080"},
		{"Chrome's developer tools", "GET http://127.0.0.1:49342/ net::ERR_CONNECTION_REFUSED", "127.0.0.1:49342"},
		{"psql", `connection to server at "localhost" (::1), port 5432 failed: Connection refused`, "[::1]:5432"},
		{"port in words", "port 5432 failed", "*:5432"},
		{"vite", "Error: Port 5173 is already in use", "*:5173"},
		{"option", "--port=8080", "*:8080"},
		{"curl", "curl: (7) Failed to connect to localhost port 8080 after 0 ms: Connection refused", "127.0.0.1:8080 [::1]:8080"},
		{"nc", "nc: connect to 127.0.0.1 port 80 (tcp) failed: Connection refused", "127.0.0.1:80"},
		{"MySQL", "Can't connect to MySQL server on '127.0.0.1:3306' (111)", "127.0.0.1:3306"},
		{"nginx", "bind() to 0.0.0.0:80 failed (98: Address already in use)", "*:80"},
		{"Java", "java.net.ConnectException: Connection refused: localhost/127.0.0.1:8080", "127.0.0.1:8080"},
		{"Java, IPv6 in full", "Connection refused: /0:0:0:0:0:0:0:1:8080", "[::1]:8080"},
		{"Netty", "[id: 0x1f, L:/127.0.0.1:5000 - R:localhost/127.0.0.1:8080]", "127.0.0.1:5000 127.0.0.1:8080"},
		{".NET", "Now listening on: http://[::]:5000", "*:5000"},
		{"Docker", "Bind for 0.0.0.0:8080 failed: port is already allocated", "*:8080"},
		{"docker ps", "0.0.0.0:8080->80/tcp, :::8080->80/tcp", "*:8080"},
		{"docker run", "-p 127.0.0.1:8080:80", "127.0.0.1:8080"},
		{"ss", `LISTEN 0 4096 127.0.0.53%lo:53 0.0.0.0:* users:(("systemd-resolve",pid=5,fd=14))`, "127.0.0.53:53"},
		{"lsof", "node 77 me 21u IPv6 0x0 0t0 TCP *:3000 (LISTEN)", "*:3000"},
		{"time stamps", "2026/11/23 15:04:05 main.go:42: dial tcp 127.0.0.1:49342: i/o timeout", "127.0.0.1:49342"},
		{"a log line in brackets", "[2026-11-23T15:04:05Z] [127.0.0.1:49342] closed.", "127.0.0.1:49342"},
		{"end of a sentence", "I cannot reach http://localhost:3000.", "127.0.0.1:3000 [::1]:3000"},
		{"quoted", `"127.0.0.1:80"`, "127.0.0.1:80"},
		{"repeated", "127.0.0.1:80 and 127.0.0.1:80, also [::1]:80", "127.0.0.1:80 [::1]:80"},
		{"a name beside an address", "example.test:80 (127.0.0.1:80)", "127.0.0.1:80"},
		{"address alone in a text", "no route to ::1.", "[::1]:*"},
		{"bad port beside a good one", "not 127.0.0.1:0 but 127.0.0.1:1", "127.0.0.1:1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParseTarget(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(targetsOf(t, tc.want), got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// realTexts are what programs really wrote, on Debian 12, as they were refused by 49342 or found a port in use.
var realTexts = []struct{ name, in, want string }{
	{"curl 7.88", "curl: (7) Failed to connect to localhost port 49342 after 0 ms: Couldn't connect to server", "127.0.0.1:49342 [::1]:49342"},
	{"curl 7.88, IPv6", "curl: (7) Failed to connect to ::1 port 49342 after 0 ms: Couldn't connect to server", "[::1]:49342"},
	{"curl 7.88 -v", "  0     0    0     0 --:--:-- --:--:--     0*   Trying 127.0.0.1:49342...\n* connect to 127.0.0.1 port 49342 failed: Connection refused\n*   Trying [::1]:49342...\n* connect to ::1 port 49342 failed: Connection refused\n* Closing connection 0", "127.0.0.1:49342 [::1]:49342"},
	{"Node.js 20, http.get", "node:events:502\n      throw er; // Unhandled 'error' event\n      ^\n\nError: connect ECONNREFUSED 127.0.0.1:49342\n    at TCPConnectWrap.afterConnect [as oncomplete] (node:net:1611:16)\nEmitted 'error' event on ClientRequest instance at:\n    at emitErrorEvent (node:_http_client:101:11) {\n  errno: -111,\n  code: 'ECONNREFUSED',\n  syscall: 'connect',\n  address: '127.0.0.1',\n  port: 49342\n}\n\nNode.js v20.20.2", "127.0.0.1:49342"},
	{"Node.js 20, fetch", "TypeError: fetch failed\n    at node:internal/deps/undici/undici:14976:13 {\n  [cause]: Error: connect ECONNREFUSED 127.0.0.1:49342\n      at TCPConnectWrap.afterConnect [as oncomplete] (node:net:1611:16) {", "127.0.0.1:49342"},
	{"Node.js 20, in use", "Error: listen EADDRINUSE: address already in use :::49343\n    at Server.setupListenHandle [as _listen2] (node:net:1908:16) {\n  code: 'EADDRINUSE',\n  errno: -98,\n  syscall: 'listen',\n  address: '::',\n  port: 49343\n}", "*:49343"},
	{"Python 3.11, asyncio", "ConnectionRefusedError: [Errno 111] Connect call failed ('127.0.0.1', 49342)", "127.0.0.1:49342"},
	{"Python 3.11, asyncio, in use", "OSError: [Errno 98] error while attempting to bind on address ('127.0.0.1', 49344): address already in use", "127.0.0.1:49344"},
	{"requests", `requests.exceptions.ConnectionError: HTTPConnectionPool(host='127.0.0.1', port=49342): Max retries exceeded with url: / (Caused by NewConnectionError("HTTPConnection(host='127.0.0.1', port=49342): Failed to establish a new connection: [Errno 111] Connection refused"))`, "127.0.0.1:49342"},
	{"psql 15", "psql: error: connection to server at \"localhost\" (127.0.0.1), port 49342 failed: Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?", "127.0.0.1:49342"},
	{"redis-cli 7", "Could not connect to Redis at 127.0.0.1:49342: Connection refused", "127.0.0.1:49342"},
	{"redis-server 7, in use", "31279:M 25 Nov 2026 05:31:02.176 * monotonic clock: POSIX clock_gettime\n31279:M 25 Nov 2026 05:31:02.176 # Warning: Could not create server TCP listening socket 127.0.0.1:49345: bind: Address already in use", "127.0.0.1:49345"},
	{"Java 17, server socket", "ServerSocket[addr=/127.0.0.1,localport=49346]", "127.0.0.1:49346"},
	{"Java 17, socket", "Socket[addr=/127.0.0.1,port=49346,localport=41686]", "127.0.0.1:49346"},
	{"Java 17, IPv6", "/[0:0:0:0:0:0:0:1]:49342", "[::1]:49342"},
	{"Rust 1.94, listener", "TcpListener { addr: 127.0.0.1:49347, fd: 3 }", "127.0.0.1:49347"},
	{"Rust 1.94, stream", "TcpStream { addr: 127.0.0.1:51024, peer: 127.0.0.1:49347, fd: 4 }", "127.0.0.1:51024 127.0.0.1:49347"},
	{"Go 1.26", `Get "http://localhost:49342/x": dial tcp 127.0.0.1:49342: connect: connection refused`, "127.0.0.1:49342 [::1]:49342"},
	{"Go 1.26, in use", "listen tcp :49349: bind: address already in use", "*:49349"},
	{"nginx 1.22, upstream", `2026/11/25 05:31:06 [error] 31381#31381: *3 connect() failed (111: Connection refused) while connecting to upstream, client: 127.0.0.1, server: , request: "GET /l HTTP/1.1", upstream: "http://127.0.0.1:49342/l", host: "127.0.0.1:49350"`, "127.0.0.1:49342"},
	{"nginx 1.22, in use", "2026/11/25 05:31:06 [emerg] 31389#31389: bind() to [::1]:49350 failed (98: Address already in use)", "[::1]:49350"},
	{"psql 15, an address", "psql: error: connection to server at \"127.0.0.1\", port 49342 failed: Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?", "127.0.0.1:49342"},
	{"PostgreSQL 15, in use", "2026-11-25 09:31:13.816 UTC [19623] LOG:  could not bind IPv4 address \"127.0.0.1\": Address already in use\n2026-11-25 09:31:13.816 UTC [19623] HINT:  Is another postmaster already running on port 49346? If not, wait a few seconds and retry.", "127.0.0.1:49346"},
	{"wget 1.21", "--2026-11-25 09:31:08--  http://127.0.0.1:49342/\nConnecting to 127.0.0.1:49342... failed: Connection refused.", "127.0.0.1:49342"},
	{"OpenSSH 9.2", "ssh: connect to host 127.0.0.1 port 49342: Connection refused", "127.0.0.1:49342"},
	{"Git 2.39", "fatal: unable to access 'http://127.0.0.1:49342/x/': Failed to connect to 127.0.0.1 port 49342 after 0 ms: Couldn't connect to server", "127.0.0.1:49342"},
	{"Chromium, its console, a WebSocket", "WebSocket connection to 'ws://localhost:49342/ws' failed: Error in connection establishment: net::ERR_CONNECTION_REFUSED", "127.0.0.1:49342 [::1]:49342"},
	{"Chromium, its console and the address of it", "Failed to load resource: net::ERR_CONNECTION_REFUSED http://127.0.0.1:49342/i.png", "127.0.0.1:49342"},
	{"Chromium, a page without the port", "This site can’t be reached\n\n127.0.0.1 refused to connect.\n\nTry:\n\nChecking the connection\nChecking the proxy and the firewall\nERR_CONNECTION_REFUSED\nReload\nDetails", "127.0.0.1:*"},
	{"Chromium, its address bar and a page", "localhost:49342\nThis site can’t be reached\n\nlocalhost refused to connect.\n\nTry:\n\nChecking the connection\nChecking the proxy and the firewall\nERR_CONNECTION_REFUSED\nReload\nDetails", "127.0.0.1:49342 [::1]:49342"},
}

func TestParseTargetRealTexts(t *testing.T) {
	for _, tc := range realTexts {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParseTarget(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(targetsOf(t, tc.want), got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func targetsOf(t *testing.T, list string) []Target {
	t.Helper()
	var targets []Target
	for word := range strings.FieldsSeq(list) {
		colon := strings.LastIndexByte(word, ':')
		host, port := word[:colon], word[colon+1:]
		var target Target
		if host != "*" {
			target.Addr = netip.MustParseAddr(strings.Trim(host, "[]"))
		}
		if port != "*" {
			target.Port = netip.MustParseAddrPort("0.0.0.0:" + port).Port()
		}
		targets = append(targets, target)
	}
	return targets
}

func TestParseTargetErrors(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   string
		want error
	}{
		{"empty", "", errNoTarget},
		{"space", " \t\n", errNoTarget},
		{"prose", "it does not work!", errNoTarget},
		{"only a time", "15:04:05", errNoTarget},
		{"name and port", "example.test:80", errHostName},
		{"name", "example.test", errHostName},
		{"name that starts as localhost", "localhost.example.test:80", errHostName},
		{"URL with a name", "https://example.test/", errHostName},
		{"URL with a name in a text", "cannot reach http://example.test:80/x", errHostName},
		{"port 0", "0", errPort},
		{"port 0 after a colon", ":0", errPort},
		{"port 0 of an address", "127.0.0.1:0", errPort},
		{"port 0 in a text", "listen EADDRINUSE :::0", errPort},
		{"port too large", "65536", errPort},
		{"port much too large", "99999999999999999999999", errPort},
		{"port too large of an address", "[::1]:65536", errPort},
		{"port too large in a URL", "http://127.0.0.1:99999/", errPort},
		{"port too large in words", "port 70000 is in use", errPort},
		{"negative port", "127.0.0.1:-1", errNoTarget},
		{"service name", "127.0.0.1:http", errNoTarget},
		{"every IPv4 address", "0.0.0.0", errAnywhere},
		{"every IPv6 address", "::", errAnywhere},
		{"every address", "*", errAnywhere},
		{"network", "127.0.0.0/8", errNetwork},
		{"socket file", "unix:///run/docker.sock", errNoTarget},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParseTarget(tc.in)
			if !errors.Is(err, tc.want) {
				t.Fatalf("got %v, %v; want %v", got, err, tc.want)
			}
			if !strings.Contains(err.Error(), "try 49342") {
				t.Errorf("no hint in %q", err)
			}
		})
	}
}

func TestParseTargetShortensTheError(t *testing.T) {
	_, err := ParseTarget(strings.Repeat("é ", 100_000))
	if err == nil || len(err.Error()) > 1000 {
		t.Fatalf("error of %d bytes", len(err.Error()))
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, seed := range []string{
		"49342", "[::1]:49342", "::ffff:127.0.0.1:1", "fe80::1%eth0:2", "http://u:p@localhost:3000/x", "mongodb://a,::1:5,[",
		"listen EADDRINUSE: address already in use :::3000", "('::1', 8000, 0, 0)", "port=1 port 2 127.0.0.1 ::1", "]:[", "a]b[c:::",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		targets, err := ParseTarget(text)
		if (err == nil) != (len(targets) > 0) {
			t.Fatalf("%d targets, error %v", len(targets), err)
		}
		for _, target := range targets {
			if !target.Addr.IsValid() && target.Port == 0 {
				t.Errorf("%v is everything", target)
			}
			if target.Addr.Is4In6() || target.Addr.Zone() != "" || target.Addr.IsValid() && target.Addr.IsUnspecified() {
				t.Errorf("%v is not in the form of records", target)
			}
		}
	})
}

func TestTargetString(t *testing.T) {
	for _, text := range []string{"127.0.0.1:80", "[::1]:80", ":80", "127.0.0.1", "::1"} {
		t.Run(text, func(t *testing.T) {
			targets, err := ParseTarget(text)
			if err != nil || len(targets) != 1 || targets[0].String() != text {
				t.Errorf("got %v, %v", targets, err)
			}
		})
	}
}
