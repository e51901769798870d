// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// about is the help's and the man page's description. Indented lines are examples.
const about = `looptrace shows what happens on this machine's loopback interface, process by process: which
program bound a port, who listens, who connects to whom, what was refused and why, and who
holds a port that is "already in use". It needs root, a kernel of 5.10 or later and no set-up.

TARGET limits it to ports or addresses: 49342, :49342, 127.0.0.1:49342, [::1]:49342,
localhost:49342, a URL, or any quoted text that holds one, such as an error message.

Filters take several values, separated by commas; a value with a leading ! is left out.
Quote the ! for your shell. A filter on processes matches either end of a connection.

Examples:

    sudo looptrace                               everything, until Ctrl-C
    sudo looptrace 8080                          the story of port 8080
    sudo looptrace "dial tcp 127.0.0.1:49342: connect: connection refused"
    sudo looptrace --failed                      only what went wrong
    sudo looptrace --comm node --event bind,listen
    sudo looptrace -o json --port '!22' | jq .message
    sudo looptrace run -- npm test               only this command and its children
    sudo looptrace demo                          see it work`

// newApp makes the command line. Everything that documents it (help, man page, completions) is made
// from what stands here and in the table of flags.
func newApp(stdout, stderr io.Writer) *cli.App {
	return &cli.App{
		Name:            "looptrace",
		Usage:           "who grabbed the port, and who connected to it",
		UsageText:       "looptrace [flags] [TARGET …]\nlooptrace COMMAND [flags]",
		Description:     about,
		Version:         version,
		Flags:           append(flagsFor(forStream), cli.HelpFlag), // the library leaves it out where there is a command help
		Action:          streamCommand,
		HideHelpCommand: true, // its `help UNKNOWN` exits with a code of its own
		Commands: []*cli.Command{
			command(runCommand(), forRun),
			command(explainCommand(), forExplain),
			command(lsCommand(), forLs),
			command(recordCommand(), forRecord),
			command(logCommand(), forLog),
			command(demoCommand(), forOutput),
			command(doctorCommand(), forOutput),
			command(schemaCommand(), forNothing),
			command(completionCommand(), forNothing),
			command(manCommand(), forNothing),
			command(helpCommand(), forNothing),
			command(versionCommand(), forNothing),
		},
		Writer:                stdout,
		ErrWriter:             stderr,
		OnUsageError:          onUsageError,
		ExitErrHandler:        func(*cli.Context, error) {}, // main says it and exits
		CustomAppHelpTemplate: appHelp(),
	}
}

// command adds what all commands have.
func command(c *cli.Command, scope scope) *cli.Command {
	c.Flags = flagsFor(scope)
	c.HideHelpCommand = true // else `run help` is not the program help
	c.OnUsageError = onUsageError
	c.CustomHelpTemplate = commandHelp(scope)
	action := c.Action
	c.Action = func(cCtx *cli.Context) error {
		if err := refuseStray(cCtx, scope); err != nil {
			return err
		}
		if c.UsageText == "" && cCtx.Args().Present() {
			return usagef("looptrace "+c.Name+" --help says what it takes", "%s takes no %q", c.Name, cCtx.Args().First())
		}
		return action(cCtx)
	}
	return c
}

// singleDash finds the flags in the messages of package flag, which writes them -port.
var singleDash = regexp.MustCompile(`(^|\s)-([a-z][a-z-]+)`)

// onUsageError turns the library's error into ours: it would be printed to stdout, with the whole help.
func onUsageError(c *cli.Context, err error, _ bool) error {
	hint := "looptrace --help lists the flags"
	if c.Command != nil && c.Command.Name != "looptrace" {
		hint = "looptrace " + c.Command.Name + " --help lists its flags"
	}
	message := singleDash.ReplaceAllString(err.Error(), "$1--$2")
	if name, ok := strings.CutPrefix(message, "flag provided but not defined: "); ok {
		message = "unknown flag " + name
		if like := nearest(strings.TrimLeft(name, "-"), flagNames(c.Command.Flags)); like != "" {
			hint = "did you mean --" + like + "? " + hint
		}
	}
	return &usageError{message: visible(message), advice: hint}
}

func flagNames(flags []cli.Flag) []string {
	var names []string
	for _, f := range flags {
		names = append(names, f.Names()[0])
	}
	return names
}

// arrange moves flags before targets, so that `looptrace 8080 -o json` works: package flag stops at
// the first word that is none. What follows a command is the command's. With --help, targets are let go:
// the library would take them for commands.
func arrange(args []string, app *cli.App) []string {
	if len(args) == 0 {
		return args
	}
	words := &line{rest: args[1:]}
	var targets []string
	help := false
	for len(words.rest) > 0 {
		words.takeFlags(&help)
		if len(words.rest) == 0 {
			break
		}
		word := words.rest[0]
		words.rest = words.rest[1:]
		if word == "--" {
			targets = append(targets, words.rest...)
			break
		}
		if len(targets) == 0 && app.Command(word) != nil {
			words.flags = append(words.flags, word)
			words.takeFlags(new(bool))
			if slices.Contains(targeted, word) {
				return append(args[:1:1], words.aside()...)
			}
			return append(append(args[:1:1], words.flags...), words.rest...)
		}
		targets = append(targets, word)
	}
	if len(targets) == 0 || help || words.unfinished {
		return append(args[:1:1], words.flags...)
	}
	return append(append(append(args[:1:1], words.flags...), "--"), targets...)
}

// targeted are the commands that take a TARGET.
var targeted = []string{"explain", "who", "log", "ls", "record"}

// aside puts the rest of a command's flags before its targets.
func (l *line) aside() []string {
	var targets []string
	help := slices.Contains(l.flags, "--help") || slices.Contains(l.flags, "-h")
	for len(l.rest) > 0 {
		if l.rest[0] == "--" {
			targets = append(targets, l.rest[1:]...)
			break
		}
		targets = append(targets, l.rest[0])
		l.rest = l.rest[1:]
		l.takeFlags(&help)
	}
	if len(targets) == 0 || help || l.unfinished {
		return l.flags
	}
	return append(append(l.flags, "--"), targets...)
}

// line is a command line that is being read.
type line struct {
	flags      []string
	rest       []string
	unfinished bool // the last flag lacks its value: an error, whatever else there is
}

// takeFlags takes what stands before the next word that is no flag, or --.
func (l *line) takeFlags(help *bool) {
	for len(l.rest) > 0 {
		word := l.rest[0]
		if len(word) < 2 || word[0] != '-' || word == "--" {
			return
		}
		n := 1
		if takesValue(word) {
			n = 2
		}
		if l.unfinished = n > len(l.rest); l.unfinished {
			n = len(l.rest)
		}
		*help = *help || word == "--help" || word == "-h"
		l.flags = append(append(l.flags, detach(word)), l.rest[1:n]...)
		l.rest = l.rest[n:]
	}
}

// detach makes -ojson the -o=json that package flag knows.
func detach(word string) string {
	_, whole := specOf(word)
	if whole || len(word) < 3 || word[1] == '-' {
		return word
	}
	if s, ok := specOf(word[:2]); ok && s.value != "" {
		return word[:2] + "=" + word[2:]
	}
	return word
}
