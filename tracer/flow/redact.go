// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"regexp"
	"slices"
	"strings"
)

// hidden stands for a secret.
const hidden = "***"

// RedactArgs returns a copy of a program's arguments (argv, with the program first) in which whatever looks like a
// secret is ***: the values of options and assignments whose names say so, passwords in URLs, credentials in HTTP
// headers, and tokens known by their form. It looks into the command of `sh -c` too.
//
// It is a guess that prefers to hide too much: --cmdline none is for those who cannot afford a guess.
func RedactArgs(args []string) []string {
	return redactArgs(args, 0)
}

// maxCommands bounds how deep commands in arguments (sh -c "ssh host 'sh -c …'") are followed; deeper, the text is
// still scrubbed. Each level costs a pass over the text.
const maxCommands = 4

func redactArgs(args []string, depth int) []string {
	r := redactor{depth: depth}
	redacted := make([]string, len(args))
	for i, arg := range args {
		redacted[i] = r.arg(arg, len(args) == 1)
	}
	return redacted
}

// value says what an argument is by the one before it.
type value int

const (
	plain    value = iota
	secret         // the value of --password
	userPass       // the value of curl's --user
	command        // the value of sh -c
)

// redactor walks over the arguments of one command.
type redactor struct {
	depth   int
	program string // the last program seen that has secret options of its own: sudo and env come before it
	next    value
}

// arg redacts the next argument. Alone is that of a program that rewrote its command line as one text.
func (r *redactor) arg(arg string, alone bool) string {
	now := r.next
	r.next = plain
	switch {
	case now == secret && !isOption(arg):
		return hidden
	case now == userPass && !isOption(arg):
		return hidePassword(arg)
	case now == command || alone:
		return r.command(arg)
	}
	if program := programOf(r.program, arg); program != "" {
		r.program = program
		return scrub(arg)
	}
	if redacted, ok := r.short(arg); ok {
		return redacted
	}
	return r.long(arg)
}

// isOption tells an option from a value that begins with a dash, as one in 64 base64 tokens does.
func isOption(arg string) bool {
	return strings.HasPrefix(arg, "--") || len(arg) == 2 && arg[0] == '-'
}

// short redacts the options of one letter that hold secrets in some programs, with the value attached or next.
func (r *redactor) short(arg string) (string, bool) {
	if len(arg) < 2 || arg[0] != '-' || arg[1] == '-' {
		return "", false
	}
	flag, attached := arg[:2], arg[2:]
	kind := secretFlags[r.program][flag]
	switch {
	case kind == plain:
		// -c, -lc, -ec: what a shell, or whoever starts one, runs.
		if strings.HasSuffix(arg, "c") && strings.Trim(arg[1:], "abcdefghijklmnopqrstuvwxyz") == "" && len(arg) <= 4 {
			r.next = command
		}
		return "", false
	case attached == "" && r.program == mysql:
		return arg, true // it will ask
	case kind == userPass && attached != "":
		return flag + hidePassword(attached), true
	case kind == userPass:
		r.next = userPass
		return arg, true
	}
	// The program has its one secret; sshpass runs another, whose -p is a port.
	r.program = ""
	if attached == "" {
		r.next = secret
		return arg, true
	}
	return flag + hidden, true
}

// long redacts --name value, --name=value, -name=value (Go and Java have one dash) and NAME=value.
func (r *redactor) long(arg string) string {
	name, assigned, hasValue := strings.Cut(arg, "=")
	option := strings.HasPrefix(name, "-")
	bare := strings.TrimLeft(name, "-")
	switch {
	case !isName(bare) || !option && !hasValue:
		return scrub(arg)
	case name == "--user" || name == "--proxy-user": // docker's is a user, or user:group
		if hasValue {
			return name + "=" + hidePassword(assigned)
		}
		r.next = userPass
	case len(bare) > 1 && isSecretName(bare):
		if hasValue {
			return name + "=" + hidden
		}
		// mysql's own takes no value from the next argument, but asks.
		if r.program != mysql {
			r.next = secret
		}
	default:
		return scrub(arg)
	}
	return arg
}

// command redacts a command line that is one argument, and keeps its spacing.
func (r *redactor) command(text string) string {
	if r.depth >= maxCommands {
		return scrub(text)
	}
	words := splitCommand(text)
	if len(words) == 1 {
		if inner, ok := unquote(text); ok {
			quote := text[:1]
			return quote + strings.Join(redactArgs(splitCommand(inner), r.depth+1), " ") + quote
		}
		return scrub(text)
	}
	return scrub(strings.Join(redactArgs(words, r.depth+1), " "))
}

// splitCommand splits at the spaces outside quotes; joined with spaces, the words are the text again.
func splitCommand(text string) []string {
	var words []string
	var quote byte
	start := 0
	for i := range len(text) {
		switch c := text[i]; {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote == 0 && c == ' ':
			words = append(words, text[start:i])
			start = i + 1
		}
	}
	return append(words, text[start:])
}

func unquote(text string) (string, bool) {
	if len(text) < 2 || text[0] != '\'' && text[0] != '"' || text[len(text)-1] != text[0] {
		return "", false
	}
	return text[1 : len(text)-1], true
}

// Programs of secretFlags that the code above treats in a way of their own.
const (
	mysql = "mysql"
	curl  = "curl"
)

// secretFlags are the options of one letter that are followed by a secret, by program, from their manual pages.
var secretFlags = map[string]map[string]value{
	mysql:          {"-p": secret},
	curl:           {"-u": userPass, "-U": userPass},
	"sshpass":      {"-p": secret},
	"redis-cli":    {"-a": secret},
	"mongo":        {"-p": secret},
	"ldap":         {"-w": secret},
	"sqlcmd":       {"-P": secret},
	"ipmitool":     {"-P": secret},
	"zip":          {"-P": secret},
	"docker login": {"-p": secret},
	"docker":       {},
}

// programOf returns the key of secretFlags for the program that an argument names, "" where it names none.
// Of docker only login is meant: -p of run is a port.
func programOf(before, arg string) string {
	base := strings.Trim(arg[strings.LastIndexByte(arg, '/')+1:], `'"`)
	switch base {
	case "mysqld", "mysqld_safe", "mysqld_multi", "mariadbd", "mariadbd-safe":
		return ""
	case "mycli":
		return mysql
	case "valkey-cli", "keydb-cli":
		return "redis-cli"
	case "unzip", "zipcloak":
		return "zip"
	case "podman", "nerdctl", "buildah", "skopeo":
		return "docker"
	case "login":
		if before == "docker" {
			return "docker login"
		}
		return ""
	}
	for _, family := range []string{mysql, "mariadb", "mongo", "ldap"} {
		if rest, ok := strings.CutPrefix(base, family); ok && isLetters(rest) {
			return strings.Replace(family, "mariadb", mysql, 1)
		}
	}
	if _, ok := secretFlags[base]; ok {
		return base
	}
	return ""
}

// isLetters accepts what follows a family's name in that of a program: mysqldump, mariadb-dump, ldapsearch.
func isLetters(s string) bool {
	return strings.Trim(s, "-abcdefghijklmnopqrstuvwxyz") == ""
}

// isName reports whether an option or variable can be called this.
func isName(s string) bool {
	return s != "" && strings.IndexFunc(s, func(c rune) bool { return !isNameRune(c) }) < 0
}

func isNameRune(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
}

// isSecretName decides by the name whether a value is to be hidden: of variables (in capitals) in doubt yes,
// of options in doubt no, since most options are harmless and argue what the program does.
func isSecretName(name string) bool {
	if name == strings.ToUpper(name) {
		return isSecretVariable(name)
	}
	words := nameWords(name)
	last := len(words) - 1
	if last < 0 || slices.Contains(switchWords, words[0]) && last > 0 || slices.Contains(aboutWords, words[last]) {
		return false
	}
	for i, word := range words {
		switch {
		case slices.Contains(secretWords, word):
			return true
		case strings.Contains(word, "password"), strings.Contains(word, "passwd"):
			return true
		case strings.Contains(word, "passphrase"), strings.Contains(word, "secret"):
			return true
		case strings.HasSuffix(word, "token"), strings.HasSuffix(word, "apikey"), strings.HasSuffix(word, "accesskey"):
			return true
		case word == "key" && i > 0 && slices.Contains(keyWords, words[i-1]):
			return true
		case i == last && (word == "auth" || word == "cookie" || strings.HasSuffix(word, "pass") && word != "bypass" && word != "compass"):
			return true
		}
	}
	return false
}

var (
	secretWords = []string{"pwd", "token", "credential", "credentials", "privatekey", "secretkey", "authkey", "bearer"}
	// keyWords come before "key" where that is no name, path or column.
	keyWords = []string{
		"api", "access", "private", "secret", "account", "encryption", "signing", "auth", "shared", "master",
		"license", "client", "app", "storage", "session", "deploy", "service", "webhook", "admin", "subscription",
	}
	// switchWords begin the names of options without a value: --no-password, --ask-pass.
	switchWords = []string{
		"no", "ask", "prompt", "enable", "disable", "skip", "require", "with", "without", "allow", "use", "show", "generate",
	}
	// aboutWords end the names of options that tell something about a secret: --password-file, --token-ttl.
	aboutWords = []string{
		"file", "path", "dir", "fd", "stdin", "name", "count", "length", "size", "min", "max", "limit", "type", "format",
		"policy", "prompt", "ttl", "timeout", "expiry", "url", "uri", "endpoint", "issuer", "header", "field", "algorithm", "env",
	}
)

// nameWords splits a-name, a_name, a.name and aName into words in small letters.
func nameWords(name string) []string {
	var split strings.Builder
	lower := false
	for _, c := range name {
		upper := c >= 'A' && c <= 'Z'
		if upper && lower {
			split.WriteByte('-')
		}
		lower = c >= 'a' && c <= 'z'
		split.WriteRune(c)
	}
	return strings.FieldsFunc(strings.ToLower(split.String()), func(c rune) bool { return c == '-' || c == '_' || c == '.' })
}

// harmlessVariables are words that hold one of the words below and no secret.
var harmlessVariables = strings.NewReplacer(
	"KEYBOARD", "", "KEYMAP", "", "KEYCLOAK", "", "MONKEY", "", "BYPASS", "", "PASSIVE", "", "PASSENGER", "",
	"COMPASS", "", "TOKENIZERS", "",
)

// isSecretVariable hides by any part of the name: MYAPP_DBPASS2 has no words to split it into.
func isSecretVariable(name string) bool {
	if name == "PWD" || name == "OLDPWD" {
		return false // the shell's directories
	}
	name = harmlessVariables.Replace(name)
	for _, part := range []string{"PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return strings.HasSuffix(name, "PWD") || strings.HasSuffix(name, "_AUTH")
}

// hidePassword redacts user:password; a user alone is kept, and so is one with the number of a group.
func hidePassword(credentials string) string {
	if user, password, ok := strings.Cut(credentials, ":"); ok && strings.Trim(password, "0123456789") != "" {
		return user + ":" + hidden
	}
	return credentials
}

// forms are secrets known by what they look like or by what is around them. A text
// without any of signs has none of the form, which is what most arguments come to, at a fraction of the pattern's cost.
var forms = []struct {
	signs   []string
	pattern *regexp.Regexp
	replace string
}{
	// userinfo of a URL (RFC 3986, section 3.2.1), up to the last @ before a slash: passwords have @ in them.
	{[]string{"@"}, regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://[^\s/:@?#]*):[^\s/]+@`), "${1}:" + hidden + "@"},
	// Go's MySQL driver: user:password@tcp(host)/db
	{[]string{"@tcp(", "@unix("}, regexp.MustCompile(`([^\s:@/=]+):[^\s]+@(tcp|unix)\(`), "${1}:" + hidden + "@${2}("},
	// HTTP credentials (RFC 9110, section 11.4); the scheme stays.
	{[]string{":", "="}, regexp.MustCompile(`(?i)((?:proxy-)?authorization\s*[:=]\s*(?:(?:basic|bearer|digest|negotiate|token|apikey)\s+)?)[^\s'"][^'"\r\n]*`), "${1}" + hidden},
	// Headers that hold a key by custom, and cookies (RFC 6265).
	{[]string{":"}, regexp.MustCompile(`(?i)((?:\bx-[a-z0-9-]*(?:key|token|secret|auth|password)[a-z0-9-]*|\b(?:private-token|job-token|api-key|apikey|(?:set-)?cookie))\s*:\s*)[^\s'"][^'"\r\n]*`), "${1}" + hidden},
	// JSON, as curl -d has it.
	{[]string{`"`}, regexp.MustCompile(`(?i)("[a-z0-9_.-]*(?:password|passwd|passphrase|secret|token|api_?-?key|access_?-?key|private_?-?key|credential)[a-z0-9_.-]*"\s*:\s*")(?:[^"\\]|\\.)*`), "${1}" + hidden},
	// openssl-passphrase-options(1)
	{[]string{"pass:"}, regexp.MustCompile(`^(pass:).+`), "${1}" + hidden},
	// name:value, as Windows and YAML have it, where it is all of an argument.
	{[]string{":"}, regexp.MustCompile(`(?i)^((?:[a-z0-9_.-]*(?:password|passwd|passphrase|secret)):\s*)\S+$`), "${1}" + hidden},
	// JSON Web Tokens (RFC 7519): the header begins with {", which base64url makes eyJ.
	{[]string{"eyJ"}, regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?`), hidden},
	// AWS access key ids; GitHub, GitLab and Slack tokens; Google API keys. Their prefixes are documented for scanners.
	{[]string{"AKIA", "ASIA"}, regexp.MustCompile(`\b(?:AKIA|ASIA)[A-Z0-9]{16}\b`), hidden},
	{[]string{"gh", "github_pat_"}, regexp.MustCompile(`\b(?:gh[opsur]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})`), hidden},
	{[]string{"glpat-", "xox", "AIza"}, regexp.MustCompile(`\b(?:glpat-[A-Za-z0-9_-]{20,}|xox[abeoprs]-[A-Za-z0-9-]{10,}|AIza[A-Za-z0-9_-]{35})`), hidden},
	// OpenAI, Anthropic, Stripe and those who do as they do.
	{[]string{"sk-"}, regexp.MustCompile(`\bsk-[A-Za-z0-9_-]{20,}`), hidden},
	{[]string{"-----BEGIN"}, regexp.MustCompile(`(?s)(-----BEGIN [A-Z ]*PRIVATE KEY-----).*`), "${1}" + hidden},
}

// scrub redacts what is secret wherever it stands in a text.
func scrub(text string) string {
	text = scrubAssignments(text)
	for _, form := range forms {
		if !slices.ContainsFunc(form.signs, func(sign string) bool { return strings.Contains(text, sign) }) {
			continue
		}
		text = form.pattern.ReplaceAllString(text, form.replace)
	}
	return text
}

// scrubAssignments redacts each name=value in a text: a query string, a DSN, mount -o, helm --set. A value ends
// where such lists have a separator.
func scrubAssignments(text string) string {
	if !strings.Contains(text, "=") {
		return text
	}
	var out strings.Builder
	for {
		before, after, ok := strings.Cut(text, "=")
		out.WriteString(before)
		if !ok {
			return out.String()
		}
		out.WriteByte('=')
		text = after
		name := before[strings.LastIndexFunc(before, func(c rune) bool { return !isNameRune(c) })+1:]
		if !isSecretName(strings.TrimLeft(name, "-")) {
			continue
		}
		length := valueLength(text)
		if length > 0 {
			out.WriteString(hidden)
		}
		text = text[length:]
	}
}

// valueLength measures the value that a text begins with, quotes included.
func valueLength(text string) int {
	if text != "" && (text[0] == '"' || text[0] == '\'') {
		if end := strings.IndexByte(text[1:], text[0]); end >= 0 {
			return end + 2
		}
		return len(text)
	}
	if end := strings.IndexAny(text, " \t\r\n,;&\"'"); end >= 0 {
		return end
	}
	return len(text)
}
