// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Target is an address and a port to look for, on a socket or at either end of a connection.
// The zero Addr means any address and Port 0 any port; a parsed Target names at least one of them.
// Addr has no zone and is never an IPv4-mapped IPv6 address, as in records.
type Target struct {
	Addr netip.Addr
	Port uint16
}

// String is the target as ParseTarget takes it: 127.0.0.1:80, [::1]:80, :80, 127.0.0.1 or ::1.
func (t Target) String() string {
	switch {
	case !t.Addr.IsValid():
		return ":" + strconv.Itoa(int(t.Port))
	case t.Port == 0:
		return t.Addr.String()
	default:
		return netip.AddrPortFrom(t.Addr, t.Port).String()
	}
}

// targetHint ends each error of ParseTarget: what to type instead.
const targetHint = "try 49342, :49342, 127.0.0.1:49342, [::1]:49342, localhost:49342 or http://localhost:49342"

// Why text is not a target.
var (
	errNoTarget = errors.New("no port or address in it")
	errHostName = errors.New("host names other than localhost are not resolved, give the address")
	errPort     = errors.New("a port is a number from 1 to 65535")
	errAnywhere = errors.New("that is every address, give a port with it")
	errNetwork  = errors.New("a network is not supported, give one address")
)

// ParseTarget reads what a user gives to say which port or address is meant: a port, an address, both,
// a URL, or any text that holds one, such as a pasted error message. 0.0.0.0, :: and * before a port are any
// address. What names several (localhost, or a text with two addresses) gives several, in order and without
// repeats; in a text, what names both address and port hides what names only one.
//
// It asks nobody: of names it takes only localhost and those below it, which RFC 6761, section 6.3, lets
// nobody point elsewhere. With a nil error there is at least one target; an error is for the user and says what to try.
func ParseTarget(s string) ([]Target, error) {
	s = strings.TrimSpace(s)
	targets, err := parseExact(s)
	if errors.Is(err, errNoTarget) {
		targets, err = parseText(s)
	}
	if err != nil {
		return nil, fmt.Errorf("target %q: %w; %s", shorten(s), err, targetHint)
	}
	return targets, nil
}

// shorten keeps a pasted log from filling the screen a second time.
func shorten(s string) string {
	const most = 120 // enough to recognise what was pasted
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// parseExact reads a text that is a target and nothing else. URLs are parseText's.
func parseExact(s string) ([]Target, error) {
	if strings.ContainsFunc(s, separates) {
		if _, err := netip.ParsePrefix(s); err == nil {
			return nil, errNetwork
		}
		return nil, errNoTarget
	}
	host, port := splitWord(s, false)
	return hostPort(host, port)
}

// hostPort makes targets of a host as splitWord gives it, and of a port, "" for any.
func hostPort(host, port string) ([]Target, error) {
	addrs, err := hostAddrs(host)
	if err != nil {
		return nil, err
	}
	number := uint64(0)
	if port != "" {
		if number, err = strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
			return nil, errPort
		}
	}
	targets := make([]Target, 0, len(addrs))
	for _, addr := range addrs {
		if !addr.IsValid() && number == 0 {
			return nil, errAnywhere
		}
		targets = append(targets, Target{Addr: addr, Port: uint16(number)})
	}
	return targets, nil
}

// anyHost is splitWord's host where only a port was given.
const anyHost = "*"

// hostAddrs gives the addresses that a host stands for; the zero Addr is any.
func hostAddrs(host string) ([]netip.Addr, error) {
	if host == anyHost {
		return []netip.Addr{{}}, nil
	}
	if isLocalhost(host) {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	addr, err := netip.ParseAddr(host)
	// The zone goes first: with one, IsUnspecified is false for ::.
	addr = addr.WithZone("").Unmap()
	switch {
	case err == nil && addr.IsUnspecified():
		return []netip.Addr{{}}, nil
	case err == nil:
		return []netip.Addr{addr}, nil
	case hostName.MatchString(host):
		return nil, errHostName
	default:
		return nil, errNoTarget
	}
}

// isLocalhost reports whether a name means the loopback addresses wherever it is looked up (RFC 6761, section 6.3).
func isLocalhost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost") && hostName.MatchString(host)
}

var (
	// hostName is what RFC 1123, section 2.1, lets a host be called, and the underscore that containers have.
	// A letter must be in it: 15:04 is a time.
	hostName = regexp.MustCompile(`^[0-9_.-]*[A-Za-z][A-Za-z0-9_.-]*$`)
	// zone is an IPv6 scope (RFC 4007, section 11), and the interface that ss prints after an IPv4 address.
	zone = regexp.MustCompile(`%[A-Za-z0-9_.-]+`)
	// protocol is what socat, gRPC and many a log put before an address.
	protocol = regexp.MustCompile(`(?i)^(?:(?:tcp|udp)[46]?|ipv[46]):`)
)

// splitWord takes host and port from a word, "" where there is none of it. Pasted is a word of a longer text.
// What comes after a further colon is dropped: 127.0.0.1:8080:80 is how Docker maps a port.
func splitWord(word string, pasted bool) (host, port string) {
	word = zone.ReplaceAllString(protocol.ReplaceAllString(brackets.Replace(word), ""), "")
	if isNumber(word) {
		return anyHost, word
	}
	if bracketed, rest, ok := strings.Cut(word, "]"); ok {
		return splitBracketed(strings.TrimPrefix(bracketed, "["), rest)
	}
	if strings.Count(word, ":") >= 2 {
		if host, port = splitIPv6(word, pasted); host != "" {
			return host, port
		}
	}
	host, port, hasPort := strings.Cut(word, ":")
	port, _, _ = strings.Cut(port, ":")
	if hasPort && !isNumber(port) {
		return "", ""
	}
	if host == "" && hasPort {
		host = anyHost
	}
	return host, port
}

// splitBracketed splits what RFC 3986, section 3.2.2, writes [::1]:80.
func splitBracketed(host, rest string) (string, string) {
	port, hasPort := strings.CutPrefix(rest, ":")
	port, _, _ = strings.Cut(port, ":")
	if _, err := netip.ParseAddr(host); err != nil || rest != "" && !hasPort || hasPort && !isNumber(port) {
		return "", ""
	}
	return host, port
}

// splitIPv6 splits an IPv6 address without brackets. ::1:5432 is an address and, as Node.js prints it, an
// address with a port; nobody has the address, so it is the port wherever what is before it is a whole address
// that a loopback server listens on, and in a pasted text before any whole address.
func splitIPv6(word string, pasted bool) (host, port string) {
	whole, wholeErr := netip.ParseAddr(word)
	colon := strings.LastIndexByte(word, ':')
	head, headErr := netip.ParseAddr(word[:colon])
	head = head.Unmap()
	tail := word[colon+1:]
	switch {
	case wholeErr == nil && whole.Is4In6():
		return word, ""
	case headErr == nil && isNumber(tail) && (wholeErr != nil || pasted || head.IsLoopback() || head.IsUnspecified()):
		return word[:colon], tail
	case wholeErr == nil:
		return word, ""
	default:
		return "", ""
	}
}

// brackets are written in percent-encoding by gRPC, as in a URI: ipv6:%5B::1%5D:80.
var brackets = strings.NewReplacer("%5B", "[", "%5D", "]")

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// separates says where one word of a text ends. The slash is among them for Java's localhost/127.0.0.1:80.
func separates(r rune) bool {
	return r <= ' ' || strings.ContainsRune("\"'`,;(){}<>|=/\\\u00a0", r)
}

var (
	// urlPattern takes the scheme and the authority of a URL (RFC 3986, section 3), and away the rest of it.
	urlPattern = regexp.MustCompile("([A-Za-z][A-Za-z0-9+.-]*)://([^\\s/?#\"'`<>(){}\\\\]*)[^\\s\"'`<>(){}]*")
	// tuplePattern takes host and port from a socket address as Python prints it: ('::1', 8000, 0, 0).
	tuplePattern = regexp.MustCompile(`\(\s*['"]([^'"\s]*)['"]\s*,\s*([0-9]+)\b`)
	// portPattern takes the number from "port 5432", "--port=5432" and "port: 5432", and Java's localport=5432.
	portPattern = regexp.MustCompile(`(?i)\b(local)?port(?:\s+number)?['"]?[\s:=#]*['"]?([0-9]+)\b`)
	// upstreamPattern takes from a line of nginx's error log what it could not reach. Beside it stand who asked
	// and for which host: nginx itself.
	upstreamPattern = regexp.MustCompile(`\bupstream: "([^"]+)"`)
)

// parseText finds the targets in a text. URLs and tuples are taken out of it first: cut into words, they would
// be read a second time, and differently.
func parseText(text string) ([]Target, error) {
	var found finds
	if upstreams := upstreamPattern.FindAllStringSubmatch(text, -1); upstreams != nil {
		text = ""
		for _, match := range upstreams {
			text += match[1] + " "
		}
	}
	text = urlPattern.ReplaceAllStringFunc(text, func(url string) string {
		part := urlPattern.FindStringSubmatch(url)
		found.addURL(part[1], part[2])
		return " "
	})
	text = tuplePattern.ReplaceAllStringFunc(text, func(tuple string) string {
		part := tuplePattern.FindStringSubmatch(tuple)
		if part[1] == "" {
			part[1] = anyHost
		}
		found.add(part[1], part[2])
		return " "
	})
	for _, match := range portPattern.FindAllStringSubmatch(text, -1) {
		found.addPort(match[2], match[1] != "")
	}
	// Go, ss and lsof put an arrow between the two ends of a connection.
	for _, word := range strings.FieldsFunc(strings.ReplaceAll(text, "->", " "), separates) {
		found.addWord(trimWord(word))
	}
	return found.targets()
}

// trimWord takes off what a sentence leaves on a word: a full stop, the colon after an address, half a pair of brackets.
func trimWord(word string) string {
	word = strings.TrimRight(word, ".!?")
	inner := strings.TrimSuffix(strings.TrimPrefix(word, "["), "]")
	if _, err := netip.ParseAddr(inner); err != nil && len(word)-len(inner) > 0 && !strings.Contains(inner, "]") {
		word = inner
	}
	if strings.HasSuffix(word, ":") && !strings.HasSuffix(word, "::") {
		word = word[:len(word)-1]
	}
	return word
}

// finds are the targets in a text, by how much of one each piece names.
type finds struct {
	whole     []Target // address, or any address, and port
	ports     []Target
	local     []Target // Java's localport: of a listener, or the client's beside the port that it dialled
	addresses []Target
	localhost []Target // the addresses of the name: a plain address beside it says which of them was meant
	err       error    // of the first piece that looks like a target and is none
}

// targets puts the pieces together: `server at "localhost" (::1), port 5432 failed` means one target.
func (f *finds) targets() ([]Target, error) {
	addresses := f.addresses
	if len(f.ports) == 0 {
		f.ports = f.local
	}
	if len(addresses) == 0 {
		addresses = f.localhost
	}
	switch {
	case len(f.whole) > 0:
		return unique(f.whole), nil
	case len(f.ports) > 0 && len(addresses) > 0:
		return unique(combine(unique(addresses), unique(f.ports))), nil
	case len(f.ports) > 0:
		return unique(f.ports), nil
	case f.err != nil:
		return nil, f.err
	case len(addresses) > 0:
		return unique(addresses), nil
	default:
		return nil, errNoTarget
	}
}

// maxCombined bounds what addresses and ports that stand apart can multiply to; a message has one or two of each.
const maxCombined = 64

func combine(addresses, ports []Target) []Target {
	var all []Target
	for _, address := range addresses {
		for _, port := range ports {
			if len(all) < maxCombined {
				all = append(all, Target{Addr: address.Addr, Port: port.Port})
			}
		}
	}
	return all
}

// unique drops repeats and keeps the order.
func unique(targets []Target) []Target {
	seen := make(map[Target]bool, len(targets))
	kept := targets[:0]
	for _, target := range targets {
		if !seen[target] {
			seen[target] = true
			kept = append(kept, target)
		}
	}
	return kept
}

// addWord leaves out numbers (a count, an errno, a pid), names (main.go:42) and stars: a log is full of them.
func (f *finds) addWord(word string) {
	if isNumber(word) || word == anyHost {
		return
	}
	host, port := splitWord(word, true)
	if _, err := hostAddrs(host); err == nil {
		f.add(host, port)
	}
}

func (f *finds) addPort(port string, local bool) {
	targets, err := hostPort(anyHost, port)
	if local {
		f.local = append(f.local, targets...)
	} else {
		f.ports = append(f.ports, targets...)
	}
	f.fail(err)
}

// add files a host, with a port or "".
func (f *finds) add(host, port string) {
	targets, err := hostPort(host, port)
	f.fail(err)
	switch {
	case port != "":
		f.whole = append(f.whole, targets...)
	case isLocalhost(host):
		f.localhost = append(f.localhost, targets...)
	default:
		f.addresses = append(f.addresses, targets...)
	}
}

// schemePorts are the ports of URLs that name none. IANA's registry of service names and port numbers has
// all but rediss, which is on redis's.
var schemePorts = map[string]string{
	"http": "80", "https": "443", "ws": "80", "wss": "443",
	"redis": "6379", "rediss": "6379", "mongodb": "27017",
	"postgres": "5432", "postgresql": "5432", "mysql": "3306",
	"amqp": "5672", "amqps": "5671",
}

// addURL reads an authority; MongoDB's lists several hosts.
func (f *finds) addURL(scheme, authority string) {
	authority = authority[strings.LastIndexByte(authority, '@')+1:]
	for word := range strings.SplitSeq(authority, ",") {
		word = trimWord(word)
		if word == "" || isNumber(word) {
			continue // unix:///run/x.sock has no host
		}
		host, port := splitWord(word, false)
		if port == "" {
			port = schemePorts[strings.ToLower(scheme)]
		}
		f.add(host, port)
	}
}

// fail keeps the first error, which is the answer where the text has nothing better.
func (f *finds) fail(err error) {
	if f.err == nil && !errors.Is(err, errNoTarget) {
		f.err = err
	}
}
