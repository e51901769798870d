// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func get(t *testing.T, method, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// TestServer: it answers at one path, to one method, while records are counted.
func TestServer(t *testing.T) {
	l := listen(t)
	s := New(full())
	v := Serve(l, s)
	defer v.Close()
	counting := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // until counting is closed
		for port := uint16(0); ; port++ {
			select {
			case <-counting:
				return
			default:
				_ = s.Write(refusal("curl", port))
				_ = s.Flush()
			}
		}
	})
	url := "http://" + l.Addr().String()
	tests := []struct {
		name, method, path string
		status             int
		want               string
	}{
		{"a scrape", "GET", "/metrics", 200, "looptrace_refused_connections_total{"},
		{"a scrape with a query", "GET", "/metrics?x=1", 200, "looptrace_ring_size_bytes 4096"},
		{"another path", "GET", "/", 404, "not found"},
		{"another method", "POST", "/metrics", 405, "Method Not Allowed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			status, body := get(t, test.method, url+test.path)
			if status != test.status || !strings.Contains(body, test.want) {
				t.Errorf("status %d, want %d with %q: %s", status, test.status, test.want, body)
			}
		})
	}
	close(counting)
	wg.Wait()
}

// TestServerEnds: Close frees the port at once and lets an answer end.
func TestServerEnds(t *testing.T) {
	l := listen(t)
	asked, answer := make(chan struct{}), make(chan struct{})
	cfg := full()
	cfg.Store = func() (int64, bool) {
		close(asked)
		<-answer
		return 7, true
	}
	v := Serve(l, New(cfg))
	v.grace = patience // a busy machine may take longer than a user would wait
	var body string
	var wg sync.WaitGroup
	wg.Go(func() { _, body = get(t, "GET", "http://"+l.Addr().String()+"/metrics") })
	<-asked
	closed := make(chan error, 1)
	go func() { closed <- v.Close() }() // ends with the answer
	for {                               // the port is free at once, the answer goes on
		c, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			break
		}
		c.Close()
	}
	close(answer)
	wg.Wait()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if !strings.Contains(body, "looptrace_store_size_bytes 7") {
		t.Errorf("the answer was cut off: %s", body)
	}
	if err := v.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}

// TestServerEndsWithoutClients: who connects and says nothing holds nobody up, nor does an idle scraper.
func TestServerEndsWithoutClients(t *testing.T) {
	l := listen(t)
	v := Serve(l, New(full()))
	for _, request := range []string{"", "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"} {
		c, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, len(request))); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp4", l.Addr().String()); err == nil {
		c.Close()
		t.Error("the port is not free")
	}
}
