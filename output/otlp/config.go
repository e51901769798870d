// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// Config says where to send and how much may wait. ReadConfig makes one.
type Config struct {
	URL     string // of the logs, whole: http://127.0.0.1:4318/v1/logs
	Version string // looptrace's, for service.version
	// Say tells a person what became of the receiver: once when it cannot be reached, and once when it can be again. It
	// is called from a goroutine of the sink's.
	Say func(message string)

	tls       *tls.Config
	headers   http.Header
	timeout   time.Duration // of one attempt
	gzip      bool
	queue     int // records that may wait
	batch     int // records in one request
	batchTime time.Duration
}

// SettingError is a setting that cannot be understood.
type SettingError struct {
	Name, Value string // of the flag or the variable; a secret is not in it
	Problem     string
	Advice      string
}

func (e *SettingError) Error() string {
	if e.Value == "" {
		return e.Name + ": " + e.Problem
	}
	return fmt.Sprintf("%s %q: %s", e.Name, e.Value, e.Problem)
}

// Hint says what to try next.
func (e *SettingError) Hint() string { return e.Advice }

// What the specification sets, and where its defaults are for programs that log less than this one: half a minute of a
// busy host fits the queue.
const (
	defaultTimeout   = 10 * time.Second
	defaultQueue     = 65536
	defaultBatch     = 1024
	defaultBatchTime = time.Second
	maxQueue         = 10_000_000
)

// prefix begins the variables that are of the exporter. For each, one that is for logs alone comes first.
const prefix = "OTEL_EXPORTER_OTLP_"

// ReadConfig takes the URL of a flag, and for the rest the environment. Without a URL it is the environment that says
// whether to send at all: ok is false where it does not. The error is a *SettingError.
//
// See https://opentelemetry.io/docs/specs/otel/protocol/exporter/ and .../configuration/sdk-environment-variables/.
func ReadConfig(flag string, getenv func(string) string) (c Config, ok bool, err error) {
	r := reader{getenv: getenv}
	switch {
	case flag != "":
		c.URL = r.base("--otlp", flag)
	case r.off():
		return c, false, nil
	case getenv(prefix+"LOGS_ENDPOINT") != "":
		c.URL = r.url(prefix+"LOGS_ENDPOINT", getenv(prefix+"LOGS_ENDPOINT")).String()
	case getenv(prefix+"ENDPOINT") != "":
		c.URL = r.base(prefix+"ENDPOINT", getenv(prefix+"ENDPOINT"))
	default:
		return c, false, nil
	}
	name, protocol := r.either("PROTOCOL")
	if protocol != "" && protocol != "http/protobuf" {
		r.fail(name, protocol, "looptrace speaks http/protobuf alone", "unset it, and give the receiver's port for HTTP, mostly 4318")
	}
	name, compression := r.either("COMPRESSION")
	c.gzip = compression != "none"
	if compression != "" && compression != "none" && compression != "gzip" {
		r.fail(name, compression, "unknown value", "it takes gzip or none")
	}
	name, _ = r.either("TIMEOUT")
	c.timeout = r.millis(name, defaultTimeout)
	c.queue = r.count("OTEL_BLRP_MAX_QUEUE_SIZE", defaultQueue)
	c.batch = min(r.count("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", defaultBatch), c.queue)
	c.batchTime = r.millis("OTEL_BLRP_SCHEDULE_DELAY", defaultBatchTime)
	c.headers = r.headers()
	c.tls = r.tls()
	return c, r.err == nil, r.err
}

// reader keeps the first error, so that settings can be read one after the other.
type reader struct {
	getenv func(string) string
	err    error
}

func (r *reader) fail(name, value, problem, advice string) {
	if r.err == nil {
		r.err = &SettingError{name, value, problem, advice}
	}
}

// off says whether the environment asks for no logs.
func (r *reader) off() bool {
	return strings.EqualFold(r.getenv("OTEL_SDK_DISABLED"), "true") || r.getenv("OTEL_LOGS_EXPORTER") == "none"
}

// either gives the variable that is for logs, else that for everything.
func (r *reader) either(what string) (name, value string) {
	for _, name := range []string{prefix + "LOGS_" + what, prefix + what} {
		if value := r.getenv(name); value != "" {
			return name, value
		}
	}
	return prefix + what, ""
}

// base is the URL that /v1/logs is added to.
func (r *reader) base(name, text string) string {
	const path = "/v1/logs"
	u := r.url(name, text)
	if !strings.HasSuffix(u.Path, path) {
		u = u.JoinPath(path)
	}
	return u.String()
}

func (r *reader) url(name, text string) *url.URL {
	const advice = "give the receiver's base URL, such as http://127.0.0.1:4318"
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		r.fail(name, "", "not the URL of an OTLP receiver", advice) // it may have a password in it
	case u.User != nil:
		r.fail(name, "", "a URL with a password", "give it as a header: OTEL_EXPORTER_OTLP_HEADERS='Authorization=Basic …'")
	case u.RawQuery != "" || u.Fragment != "":
		r.fail(name, "", "a URL with a query", advice)
	}
	if r.err != nil {
		return &url.URL{}
	}
	return u
}

func (r *reader) count(name string, otherwise int) int {
	text := r.getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 || n > maxQueue {
		r.fail(name, text, "not a count", fmt.Sprintf("a whole number from 1 to %d", maxQueue))
	}
	return n
}

func (r *reader) millis(name string, otherwise time.Duration) time.Duration {
	text := r.getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		r.fail(name, text, "not a time", "a number of milliseconds, such as 10000")
	}
	return time.Duration(n) * time.Millisecond
}

// headers shows no value in an error: it may be a password.
func (r *reader) headers() http.Header {
	headers := http.Header{}
	name, text := r.either("HEADERS")
	if text == "" {
		return headers
	}
	for pair := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(pair, "=")
		key = strings.TrimSpace(key)
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if !ok || err != nil || !httpguts.ValidHeaderFieldName(key) || !httpguts.ValidHeaderFieldValue(value) {
			r.fail(name, "", "not headers", "give name=value pairs with commas between them; % and , in a value are %25 and %2C")
		}
		headers.Set(key, value)
	}
	return headers
}

// tls is nil where the system's own certificates are to be believed.
func (r *reader) tls() *tls.Config {
	caName, ca := r.either("CERTIFICATE")
	certName, cert := r.either("CLIENT_CERTIFICATE")
	keyName, key := r.either("CLIENT_KEY")
	if ca == "" && cert == "" && key == "" {
		return nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		cfg.RootCAs = x509.NewCertPool()
		if err == nil && !cfg.RootCAs.AppendCertsFromPEM(pem) {
			err = errors.New("no certificate in it")
		}
		if err != nil {
			r.fail(caName, ca, bare(err), "give the path of a file with certificates in PEM")
		}
	}
	if (cert == "") != (key == "") {
		r.fail(certName+" and "+keyName, "", "one without the other", "give both, or neither")
	} else if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			r.fail(certName, cert, bare(err), "give the paths of a certificate and its key in PEM")
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg
}

// bare takes the path off: the message has it already.
func bare(err error) string {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err.Error()
	}
	return err.Error()
}
