// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// appHelp and commandHelp are the library's templates. Flags are filled in from the table: the library
// would sort them by name.
func appHelp() string {
	return `{{.HelpName}} - {{.Usage}}

Usage:
   {{wrap .UsageText 3}}

{{.Description}}

Commands:{{range .VisibleCommands}}
   {{join .Names ", "}}{{"\t"}}{{.Usage}}{{end}}
` + flagHelp(forStream) + `   -h, --help               show this help; looptrace COMMAND --help shows a command's
   -v, --version            print the version

Exit codes: 0 done, 1 failed while running, 2 usage, 3 cannot run here (looptrace doctor says what
is missing), 4 if explain knows nothing, 5 with --strict if events were lost. Run exits as its
command did.
`
}

func commandHelp(scope scope) string {
	return `{{.HelpName}} - {{.Usage}}

Usage:
   {{if .UsageText}}{{wrap .UsageText 3}}{{else}}{{.HelpName}} [flags]{{end}}
{{if .Description}}
{{.Description}}
{{end}}` + flagHelp(scope)
}

// flagHelp lists flags under the names of their groups.
func flagHelp(scope scope) string {
	var b strings.Builder
	group := ""
	for _, s := range flagTable() {
		if s.in&scope == 0 {
			continue
		}
		if s.group != group {
			group = s.group
			fmt.Fprintf(&b, "\n%s:\n", group)
		}
		short := "    "
		if s.short != "" {
			short = "-" + s.short + ", "
		}
		usage := strings.Join(wrap(s.usage, helpWidth-helpIndent), "\n"+strings.Repeat(" ", helpIndent))
		fmt.Fprintf(&b, "   %s%-21s%s\n", short, "--"+s.name+" "+s.value, usage)
	}
	return b.String()
}

const (
	helpWidth  = 99 // columns: wider, lines break where a terminal of 100 has no more room
	helpIndent = 28 // where the text on a flag begins
)

// wrap breaks a text into lines, at blanks.
func wrap(text string, width int) []string {
	lines := []string{""}
	for word := range strings.FieldsSeq(text) {
		last := &lines[len(lines)-1]
		switch {
		case *last == "":
			*last = word
		case len(*last)+1+len(word) <= width:
			*last += " " + word
		default:
			lines = append(lines, word)
		}
	}
	return lines
}

// helpCommand is `looptrace help [COMMAND]`.
func helpCommand() *cli.Command {
	return &cli.Command{
		Name:      "help",
		Usage:     "show the help of looptrace or of a command",
		UsageText: "looptrace help [COMMAND]",
		Action: func(c *cli.Context) error {
			root := c.Lineage()[1]
			name := c.Args().First()
			if name == "" {
				return cli.ShowAppHelp(root)
			}
			if c.App.Command(name) == nil {
				return unknownCommand(c.App, name)
			}
			return cli.ShowCommandHelp(root, name)
		},
	}
}

// versionCommand is --version for who types it as a command. It is not in the help, which has the flag.
func versionCommand() *cli.Command {
	return &cli.Command{
		Name:   "version",
		Usage:  "print the version",
		Hidden: true,
		Action: func(c *cli.Context) error {
			cli.ShowVersion(c)
			return nil
		},
	}
}

func unknownCommand(app *cli.App, name string) error {
	hint := "looptrace --help lists the commands; to look for a port or an address, give one"
	if like := nearest(name, commandNames(app)); like != "" {
		hint = "did you mean looptrace " + like + "? looptrace --help lists the commands"
	}
	return usagef(hint, "unknown command %q", name)
}

// isCommandName says whether a word that is no target was meant for a command.
func isCommandName(word string) bool {
	return strings.Trim(strings.ToLower(word), "abcdefghijklmnopqrstuvwxyz-") == ""
}

// typos is how many letters may be wrong for a word to be meant: with three, every short word is like
// some other.
const typos = 2

// nearest gives the word that a misspelt one is like, or "".
func nearest(word string, words []string) string {
	best, distance := "", typos+1
	for _, w := range words {
		if d := editDistance(word, w); d < distance && d < len(w) {
			best, distance = w, d
		}
	}
	return best
}

// editDistance counts the letters to insert, delete or replace (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
