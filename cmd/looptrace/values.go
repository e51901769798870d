// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/looptrace/looptrace/tracer/flow"
)

// values reads a list: each value may have a ! before it. All is every value that there is, where that can
// be told.
func values[T comparable](p *parser, name string, parse func(string) (T, error), all ...T) flow.Set[T] {
	var set flow.Set[T]
	if !p.isSet(name) {
		return set
	}
	for text := range strings.SplitSeq(p.text(name), ",") {
		text = strings.TrimSpace(text)
		bare, excluded := strings.CutPrefix(text, "!")
		v, err := parse(bare)
		if err == nil && bare == "" {
			err = errors.New("an empty value")
		}
		switch {
		case err != nil:
			p.fail("values are separated by commas, a leading ! leaves one out: --"+name+" A,B or --"+name+" '!A'", "--%s %q: %v", name, text, err)
		case excluded:
			set.Exclude = append(set.Exclude, v)
		default:
			set.Include = append(set.Include, v)
		}
	}
	if len(set.Include) > 0 {
		all = set.Include
	}
	if len(all) > 0 && !slices.ContainsFunc(all, func(v T) bool { return !slices.Contains(set.Exclude, v) }) {
		p.fail("take a value out of it, or the ! from one", "--%s %q: nothing can pass, every value is left out", name, p.text(name))
	}
	return set
}

func oneOf(words []string) func(string) (string, error) {
	return func(s string) (string, error) {
		if !slices.Contains(words, s) {
			return "", errors.New("it takes " + alternatives(words))
		}
		return s, nil
	}
}

func alternatives(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

var protocols = map[string]uint16{"tcp": syscall.IPPROTO_TCP, "udp": syscall.IPPROTO_UDP}

func parseProto(s string) (uint16, error) {
	proto, ok := protocols[s]
	if !ok {
		return 0, errors.New("it takes " + alternatives(slices.Sorted(maps.Keys(protocols))))
	}
	return proto, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, errors.New("a port is a number from 1 to 65535")
	}
	return uint16(n), nil
}

func parsePID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || n == 0 {
		return 0, errors.New("a process id is a number from 1 on (for names there is --comm)")
	}
	return uint32(n), nil
}

// commSize is what the kernel keeps of a program's name (TASK_COMM_LEN less its zero byte).
const commSize = 15

// parseComm cuts a name as the kernel does, so that the name in full matches too.
func parseComm(s string) (string, error) {
	return s[:min(len(s), commSize)], nil
}

func parseAny(s string) (string, error) { return s, nil }

// noUser is (uid_t)-1: to the kernel it means that there is none, or to keep the one there is.
const noUser = math.MaxUint32

func parseUser(s string) (uint32, error) {
	if n, err := strconv.ParseUint(s, 10, 32); err == nil && n != noUser {
		return uint32(n), nil
	}
	u, err := user.Lookup(s)
	if err != nil {
		return 0, errors.New("no such user; give a name from /etc/passwd or a number")
	}
	n, err := strconv.ParseUint(u.Uid, 10, 32)
	return uint32(n), err
}

// parseNetns takes an inode number, as records have it, as readlink shows it (net:[4026531840]), or a
// path to a namespace (/proc/PID/ns/net, /run/netns/NAME).
func parseNetns(s string) (uint32, error) {
	number := strings.TrimSuffix(strings.TrimPrefix(s, "net:["), "]")
	if n, err := strconv.ParseUint(number, 10, 32); err == nil && n > 0 {
		return uint32(n), nil
	}
	if !strings.Contains(s, "/") {
		return 0, errors.New("a network namespace is an inode number (readlink /proc/PID/ns/net shows it) or a path")
	}
	info, err := os.Stat(s)
	if err != nil {
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err // the value is in the message already
		}
		return 0, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !onNsfs(s) {
		return 0, fmt.Errorf("not a network namespace; /proc/PID/ns/net is one")
	}
	return uint32(stat.Ino), nil
}

// onNsfs tells a namespace from another file.
func onNsfs(path string) bool {
	const nsfsMagic = 0x6e736673 // linux/magic.h
	var fs syscall.Statfs_t
	return syscall.Statfs(path, &fs) == nil && fs.Type == nsfsMagic
}
