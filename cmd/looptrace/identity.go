// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// identity is who a command of `run` runs as. A nil identity is looptrace's own.
type identity struct {
	uid, gid   int
	groups     []int
	name, home string
}

// invoker is who called sudo, or the user that --as names; nil where looptrace just goes on as it is.
func invoker(as string) (*identity, error) {
	const hint = "give the name of a user, or a number from /etc/passwd"
	if as != "" {
		u, err := user.Lookup(as)
		if err != nil {
			if u, err = user.LookupId(as); err != nil {
				return nil, usagef(hint, "--as %q: no such user", as)
			}
		}
		return identityOf(u)
	}
	uid := os.Getenv("SUDO_UID")
	if os.Geteuid() != 0 || uid == "" || uid == "0" {
		return nil, nil
	}
	if _, err := parseID(uid); err != nil {
		return nil, usagef("it is sudo that sets it: unset it, or name a user with --as USER", "SUDO_UID %q: not the number of a user", uid)
	}
	u, err := user.LookupId(uid)
	if err != nil {
		// An account that is in no file here, of a directory service: its groups are not known.
		u = &user.User{Uid: uid, Gid: os.Getenv("SUDO_GID"), Username: os.Getenv("SUDO_USER"), HomeDir: "/"}
	}
	return identityOf(u)
}

func identityOf(u *user.User) (*identity, error) {
	uid, uidErr := parseID(u.Uid)
	gid, gidErr := parseID(u.Gid)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return nil, usagef("name another user with --as USER", "user %q: its number or its group's (%q) is none", u.Username, u.Gid)
	}
	who := &identity{uid: uid, gid: gid, groups: []int{gid}, name: u.Username, home: u.HomeDir}
	ids, _ := u.GroupIds() // without: the primary group alone
	for _, id := range ids {
		if group, err := strconv.Atoi(id); err == nil && group != gid {
			who.groups = append(who.groups, group)
		}
	}
	return who, nil
}

// parseID takes the number of a user or a group. That of none would let the command keep root: setresuid(2)
// takes it for no change.
func parseID(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err == nil && n == noUser {
		err = strconv.ErrRange
	}
	return int(n), err
}

// String is the identity as the stage takes it: UID:GID:GROUP,GROUP. Empty is nobody else.
func (who *identity) String() string {
	if who == nil {
		return ""
	}
	var groups []string
	for _, g := range who.groups {
		groups = append(groups, strconv.Itoa(g))
	}
	return fmt.Sprintf("%d:%d:%s", who.uid, who.gid, strings.Join(groups, ","))
}

// environ gives an environment to this user: a command that runs as somebody with root's HOME leaves
// files there that root then owns, or fails to. Sudo's traces go, since the command is not under it.
func (who *identity) environ(env []string) []string {
	if who == nil {
		return env
	}
	env = slices.DeleteFunc(slices.Clone(env), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return strings.HasPrefix(name, "SUDO_") || slices.Contains([]string{"HOME", "USER", "LOGNAME", "MAIL"}, name)
	})
	return append(env, "HOME="+who.home, "USER="+who.name, "LOGNAME="+who.name)
}

var errIdentity = errors.New("cannot run as the user")

// become takes on an identity for good, from what String wrote.
func become(text string) error {
	if text == "" {
		return nil
	}
	part := strings.Split(text, ":")
	uid, uidErr := strconv.Atoi(part[0])
	gid, gidErr := strconv.Atoi(part[1])
	var groups []int
	for word := range strings.SplitSeq(part[2], ",") {
		if g, err := strconv.Atoi(word); err == nil {
			groups = append(groups, g)
		}
	}
	err := errors.Join(uidErr, gidErr)
	if err == nil && uid == os.Getuid() && gid == os.Getgid() {
		return nil // --as oneself needs no privilege
	}
	// The user last: it takes the right to do the others.
	for _, step := range []func() error{
		func() error { return syscall.Setgroups(groups) },
		func() error { return syscall.Setresgid(gid, gid, gid) },
		func() error { return syscall.Setresuid(uid, uid, uid) },
	} {
		if err == nil {
			err = step()
		}
	}
	if err != nil {
		return fmt.Errorf("%w %d: %w", errIdentity, uid, err)
	}
	return nil
}
