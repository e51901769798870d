// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/urfave/cli/v2"
)

// manCommand is `looptrace man`, for packagers and `make man`: hidden, so that nobody takes it for help.
func manCommand() *cli.Command {
	return &cli.Command{
		Name:   "man",
		Usage:  "print the man page",
		Hidden: true,
		Action: func(c *cli.Context) error {
			_, err := c.App.Writer.Write(md2man.Render([]byte(manMarkdown(c.App))))
			return err
		},
	}
}

// manOwn says, of the commands that have flags of their own, which of the stream's they take too.
var manOwn = map[string]struct {
	shared string
	in     scope
}{
	"run":     {"the flags above", inRun},
	"explain": {"**--output**", inExplain},
	"ls":      {"**--output** and the filters of above but **--event** and **--failed**", inLs},
	"record":  {"the filters, **--log-file**, **--otlp**, **--cmdline**, **--duration**, **--strict** and **--hooks** of above", inRecord},
	"log":     {"**--output** and the filters of above", inLog},
}

// manMarkdown is the man page as go-md2man wants it.
func manMarkdown(app *cli.App) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%% %s 8\n\n# NAME\n\n%s - %s\n\n", strings.ToUpper(app.Name), app.Name, app.Usage)
	fmt.Fprintf(&b, "# SYNOPSIS\n\n**looptrace** [*flags*] [*TARGET* …]\n\n**looptrace** *COMMAND* [*flags*]\n\n")
	fmt.Fprintf(&b, "# DESCRIPTION\n\n%s\n\n# FLAGS\n\n", app.Description)
	manFlags(&b, inStream)
	fmt.Fprintf(&b, "# COMMANDS\n\n")
	for _, c := range app.VisibleCommands() {
		fmt.Fprintf(&b, "## %s\n\n%s\n\n", usageLine(c), sentence(c.Usage))
		if c.Description != "" {
			fmt.Fprintf(&b, "%s\n\n", c.Description)
		}
		if own, ok := manOwn[c.Name]; ok {
			fmt.Fprintf(&b, "It takes %s, and\n\n", own.shared)
			manFlags(&b, own.in)
		}
	}
	b.WriteString(manTail)
	return strings.ReplaceAll(b.String(), "…", "...") // not every roff has it
}

// manFlags lists the flags of the stream, or those that only another command has.
func manFlags(w io.Writer, in scope) {
	for _, s := range flagTable() {
		if s.in&in == 0 || in != inStream && s.in&inStream != 0 {
			continue
		}
		name := "**--" + s.name + "**"
		if s.short != "" {
			name = "**-" + s.short + "**, " + name
		}
		if s.value != "" {
			name += " *" + s.value + "*"
		}
		fmt.Fprintf(w, "%s\n: %s\n\n", name, sentence(s.usage))
	}
}

func usageLine(c *cli.Command) string {
	if c.UsageText != "" {
		return c.UsageText
	}
	return "looptrace " + c.Name + " [flags]"
}

func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] + "." }

const manTail = `# EXIT STATUS

**0**
: Done, or stopped by SIGINT, SIGTERM, SIGQUIT or a closed pipe; by SIGHUP too, where there is no **--log-file** to reopen.

**1**
: Failed while running.

**2**
: The command line is wrong.

**3**
: Cannot run here: what is missing is on stderr. See **looptrace doctor**.

**4**
: **explain** knows nothing about its target.

**5**
: Events were lost, with **--strict**.

**looptrace run** exits as its command did: with 128 and the number of the signal that ended it, with 127 where it
was not found and with 126 where it could not be executed.

# ENVIRONMENT

**NO_COLOR**
: If set, the text output has no colour on a terminal either. Where stdout is no terminal, it never has.

# SEE ALSO

**ss**(8), **lsof**(8), **tcpdump**(8)
`
