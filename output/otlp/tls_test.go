// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/looptrace/looptrace/output/otlp/otlptest"
)

// TestTLS: both ends show certificates, and nothing goes to a receiver that is not who it should be, or that does not
// know us.
func TestTLS(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	for _, d := range []string{dir, other} {
		if err := otlptest.Certificates(d); err != nil {
			t.Fatal(err)
		}
	}
	files := func(dir string, names ...string) map[string]string {
		env := map[string]string{}
		for i, name := range names {
			env["OTEL_EXPORTER_OTLP_"+[]string{"CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"}[i]] = filepath.Join(dir, name)
		}
		return env
	}
	tests := []struct {
		name string
		env  map[string]string
		told string // "": the record arrives
	}{
		{"both", files(dir, "ca.pem", "client.pem", "client.key"), ""},
		{"nothing to show", files(dir, "ca.pem"), "certificate required"},
		{"the system's authorities", nil, "unknown authority"},
		{"another authority", files(other, "ca.pem", "client.pem", "client.key"), "unknown authority"},
		{"a stranger", func() map[string]string {
			env := files(other, "ca.pem", "client.pem", "client.key")
			env["OTEL_EXPORTER_OTLP_CERTIFICATE"] = filepath.Join(dir, "ca.pem")
			return env
		}(), "tls: "},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel() // those that fail wait for the receiver at their end
			rc := &otlptest.Receiver{}
			shown := make(chan string, 1)
			server := mutual(t, dir, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				shown <- r.TLS.PeerCertificates[0].Subject.CommonName
				rc.ServeHTTP(w, r)
			}))
			s, told := open(t, settings(t, server.URL, test.env))
			write(t, s, 0, 1)
			if test.told == "" {
				waitFor(t, "record", func() bool { return len(rc.Records()) == 1 })
				if name := <-shown; name != "client" || s.Close() != nil || told.all() != "" {
					t.Errorf("%q connected, told %q", name, told.all())
				}
				return
			}
			waitFor(t, "word of it", func() bool { return contains(told.all(), test.told) })
			if err := s.Close(); err == nil || s.Lost() != 1 || rc.Requests() != 0 {
				t.Errorf("close: %v, lost %d, %d requests", err, s.Lost(), rc.Requests())
			}
		})
	}
}

// mutual is a server that wants a certificate of the authority in a directory.
func mutual(t *testing.T, dir string, handler http.Handler) *httptest.Server {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // a handshake that fails is what this is about
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool()}
	server.TLS.ClientCAs.AppendCertsFromPEM(ca)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}
