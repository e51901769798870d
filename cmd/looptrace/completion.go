// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// completionCommand is `looptrace completion SHELL`. The scripts are made from the table of flags and
// need no looptrace to run: a completion that starts a program as root would be a bad surprise.
func completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print the completions for a shell: bash, zsh or fish",
		UsageText: "looptrace completion bash|zsh|fish",
		Description: `Examples:

    sudo sh -c 'looptrace completion bash >/usr/share/bash-completion/completions/looptrace'
    sudo sh -c 'looptrace completion zsh >/usr/local/share/zsh/site-functions/_looptrace'
    looptrace completion fish >~/.config/fish/completions/looptrace.fish`,
		Action: func(c *cli.Context) error {
			script := map[string]func(*cli.App) string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[c.Args().First()]
			if script == nil || c.Args().Len() != 1 {
				return usagef("looptrace completion bash|zsh|fish", "completion takes the name of one shell")
			}
			_, err := fmt.Fprint(c.App.Writer, script(c.App))
			return err
		},
	}
}

// shells are what completion takes.
var shells = []string{"bash", "zsh", "fish"}

// specs gives the table's rows of a command's flags.
func specs(flags []cli.Flag) []spec {
	var rows []spec
	for _, name := range flagNames(flags) {
		if s, ok := specOf(name); ok {
			rows = append(rows, s)
		}
	}
	return rows
}

func commandNames(app *cli.App) []string {
	var names []string
	for _, c := range app.VisibleCommands() {
		names = append(names, c.Name)
	}
	return names
}

// longFlags are flags as one types them.
func longFlags(rows []spec) string {
	words := []string{"--help"}
	for _, s := range rows {
		words = append(words, "--"+s.name)
	}
	return strings.Join(words, " ")
}

func bashCompletion(app *cli.App) string {
	var values, scopes strings.Builder
	var valued []string
	for _, s := range flagTable() {
		name := "--" + s.name
		if s.short != "" {
			name += "|-" + s.short
		}
		words := strings.Join(s.words, " ")
		switch {
		case s.words != nil && s.list:
			fmt.Fprintf(&values, "\t%s) COMPREPLY=($(compgen -P \"$before\" -W '%s' -- \"${cur##*,}\")); return ;;\n", name, words)
		case s.words != nil:
			fmt.Fprintf(&values, "\t%s) COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n", name, words)
		case s.complete == "file":
			fmt.Fprintf(&values, "\t%s) compopt -o default; return ;;\n", name)
		case s.complete != "":
			fmt.Fprintf(&values, "\t%s) COMPREPLY=($(compgen -A %s -- \"$cur\")); return ;;\n", name, s.complete)
		case s.value != "":
			fmt.Fprintf(&values, "\t%s) return ;;\n", name)
		}
		if s.value != "" {
			valued = append(valued, name)
		}
	}
	for _, c := range app.VisibleCommands() {
		fmt.Fprintf(&scopes, "\t%s) flags='%s' ;;\n", c.Name, longFlags(specs(c.Flags)))
	}
	return strings.NewReplacer(
		"@VALUES@", values.String(), "@VALUED@", strings.Join(valued, "|"), "@SCOPES@", scopes.String(),
		"@FLAGS@", longFlags(specs(app.Flags))+" --version", "@COMMANDS@", strings.Join(commandNames(app), " "), "@SHELLS@", strings.Join(shells, " "),
	).Replace(bashTemplate)
}

// The first word that is no flag and no flag's value decides on the command, the flag before the cursor on
// values. Bash makes a word of its own of the = between them. What follows `run` is completed as if it
// stood alone: by bash-completion where that is there. Of names of files readline knows best how to quote them.
const bashTemplate = `# bash completion for looptrace
_looptrace() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command='' flags='@FLAGS@' before='' i
	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--) ((i++)); break ;;
		@VALUED@)
			[[ ${COMP_WORDS[i+1]} == = ]] && ((i++))
			((i++)) ;;
		-*) ;;
		*)
			[[ -n $command ]] && break
			command=${COMP_WORDS[i]} ;;
		esac
	done
	if [[ $cur == = ]]; then
		cur=
	elif [[ $prev == = ]]; then
		prev=${COMP_WORDS[COMP_CWORD-2]}
	fi
	if [[ $command == run && $i -le $COMP_CWORD && ($cur != -* || ${COMP_WORDS[i-1]} == -- || $i -lt $COMP_CWORD) ]]; then
		_looptrace_command "$i"
		return
	fi
	[[ $cur == *,* ]] && before=${cur%,*},
	case $prev in
@VALUES@	esac
	case $command in
@SCOPES@	esac
	case $command in
	completion) COMPREPLY=($(compgen -W "@SHELLS@ $flags" -- "$cur")) ;;
	help) COMPREPLY=($(compgen -W "@COMMANDS@" -- "$cur")) ;;
	'') COMPREPLY=($(compgen -W "@COMMANDS@ $flags" -- "$cur")) ;;
	*) COMPREPLY=($(compgen -W "$flags" -- "$cur")) ;;
	esac
}
_looptrace_command() {
	local cur=${COMP_WORDS[COMP_CWORD]}
	if declare -F _command_offset >/dev/null; then
		_command_offset "$1"
	elif [[ $COMP_CWORD -gt $1 || $cur == */* ]]; then
		compopt -o default
	else
		COMPREPLY=($(compgen -A command -- "$cur"))
	fi
}
complete -F _looptrace looptrace
`

func zshCompletion(app *cli.App) string {
	var commands, cases strings.Builder
	for _, c := range app.VisibleCommands() {
		fmt.Fprintf(&commands, "\t\t%s\n", zshQuote(c.Name+":"+c.Usage))
		rest := ""
		switch c.Name {
		case "run":
			rest = " \\\n\t\t\t'(-)1: :{ _command_names -e }' \\\n\t\t\t'*:: :{ _normal }'"
		case "completion":
			rest = " \\\n\t\t\t'1:shell:(" + strings.Join(shells, " ") + ")'"
		case "help":
			rest = " \\\n\t\t\t'1:command:(" + strings.Join(commandNames(app), " ") + ")'"
		}
		fmt.Fprintf(&cases, "\t%s)\n\t\t_arguments -S%s%s ;;\n", c.Name, zshFlags(specs(c.Flags), "\t\t\t"), rest)
	}
	return strings.NewReplacer("@FLAGS@", zshFlags(specs(app.Flags), "\t\t"), "@COMMANDS@", commands.String(), "@CASES@", cases.String()).Replace(zshTemplate)
}

// A local array called commands would hide zsh's own, in which the completion of a command looks. Flags end
// at the first word (-A): those after it are the command's.
const zshTemplate = `#compdef looptrace
# zsh completion for looptrace
_looptrace() {
	local curcontext=$curcontext state line
	local -a subcommands
	subcommands=(
@COMMANDS@	)
	_arguments -C -A '-*'@FLAGS@ \
		'--version[print the version]' \
		'1: :->first' \
		'*:: :->rest'
	case $state in
	first)
		_describe command subcommands
		return ;;
	esac
	case $line[1] in
@CASES@	*)
		_arguments@FLAGS@ ;;
	esac
}
if [ "$funcstack[1]" = _looptrace ]; then
	_looptrace "$@"
else
	compdef _looptrace looptrace
fi
`

// zshFlags writes flags as _arguments takes them, each on a line of its own.
func zshFlags(rows []spec, indent string) string {
	var b strings.Builder
	add := func(words ...string) {
		b.WriteString(" \\\n" + indent + strings.Join(words, ""))
	}
	for _, s := range rows {
		text := "[" + strings.NewReplacer("[", "\\[", "]", "\\]").Replace(s.usage) + "]" + s.zshValue()
		repeat := ""
		if s.list {
			repeat = "*"
		}
		long, short := repeat+"--"+s.name, "-"+s.short
		if s.value != "" {
			long, short = long+"=", short+"+" // the value as the next word too, or right after the letter
		}
		add(zshQuote(long + text))
		if s.short != "" {
			add(zshQuote(short + text))
		}
	}
	add(zshQuote("--help[show help]"))
	return b.String()
}

func (s spec) zshValue() string {
	name := ":" + strings.ToLower(s.value) + ":"
	switch {
	case s.value == "":
		return ""
	case s.words != nil && s.list:
		return name + "_sequence compadd - " + strings.Join(s.words, " ")
	case s.words != nil:
		return name + "(" + strings.Join(s.words, " ") + ")"
	case s.complete == "file":
		return name + "_files"
	case s.complete == "user":
		return name + "_users"
	default:
		return name + " "
	}
}

func zshQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func fishCompletion(app *cli.App) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# fish completion for looptrace\ncomplete -c looptrace -f\n")
	none := "not __fish_seen_subcommand_from " + strings.Join(commandNames(app), " ")
	for _, c := range app.VisibleCommands() {
		fmt.Fprintf(&b, "complete -c looptrace -n %s -a %s -d %s\n", fishQuote(none), c.Name, fishQuote(c.Usage))
	}
	fmt.Fprintf(&b, "complete -c looptrace -n %s -l version -d 'print the version'\n", fishQuote(none))
	fishFlags(&b, none, specs(app.Flags))
	for _, c := range app.VisibleCommands() {
		fishFlags(&b, "__fish_seen_subcommand_from "+c.Name, specs(c.Flags))
	}
	fmt.Fprintf(&b, "complete -c looptrace -n '__fish_seen_subcommand_from completion' -a %s\n", fishQuote(strings.Join(shells, " ")))
	fmt.Fprintf(&b, "complete -c looptrace -n '__fish_seen_subcommand_from help' -a %s\n", fishQuote(strings.Join(commandNames(app), " ")))
	var valued []string // flags whose values are not the command
	for _, s := range flagTable() {
		if s.value != "" {
			valued = append(valued, "--"+s.name)
		}
		if s.value != "" && s.short != "" {
			valued = append(valued, "-"+s.short)
		}
	}
	fmt.Fprintf(&b, "complete -c looptrace -n '__fish_seen_subcommand_from run' -a '(__fish_complete_subcommand --fcs-skip=2 %s)'\n", strings.Join(valued, " "))
	return b.String()
}

func fishFlags(b *strings.Builder, when string, rows []spec) {
	for _, s := range rows {
		fmt.Fprintf(b, "complete -c looptrace -n %s -l %s", fishQuote(when), s.name)
		if s.short != "" {
			fmt.Fprintf(b, " -s %s", s.short)
		}
		switch {
		case s.words != nil && s.list:
			fmt.Fprintf(b, " -x -a %s", fishQuote("(__fish_complete_list , 'string split \" \" \""+strings.Join(s.words, " ")+"\"')"))
		case s.words != nil:
			fmt.Fprintf(b, " -x -a %s", fishQuote(strings.Join(s.words, " ")))
		case s.complete == "user":
			b.WriteString(" -x -a '(__fish_complete_users)'")
		case s.complete == "file":
			b.WriteString(" -r -F")
		case s.value != "":
			b.WriteString(" -x")
		}
		fmt.Fprintf(b, " -d %s\n", fishQuote(s.usage))
	}
	fmt.Fprintf(b, "complete -c looptrace -n %s -s h -l help -d 'show help'\n", fishQuote(when))
}

func fishQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
