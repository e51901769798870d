// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// jwt is the example of RFC 7519, section 3.1, cut.
const jwt = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UifQ.dBjftJeZ4CVPmB92K27uhbUJU1p1r"

// In these tables | separates arguments.
func TestRedactArgs(t *testing.T) {
	for _, tc := range []struct{ name, args, want string }{
		{"option with =", "app|--password=hunter2|--port=80", "app|--password=***|--port=80"},
		{"option and value", "app|--password|hunter2|run", "app|--password|***|run"},
		{"value with a dash", "app|--token|-Ab3xyz", "app|--token|***"},
		{"option without its value", "app|--password|--port|80", "app|--password|--port|80"},
		{"value with =", "app|--secret=abc==", "app|--secret=***"},
		{"empty value", "app|--password|", "app|--password|***"},
		{"token", "app|--token|t", "app|--token|***"},
		{"auth token", "app|--auth-token=t|--authtoken|t", "app|--auth-token=***|--authtoken|***"},
		{"api key", "app|--api-key|k|--apikey=k|--api_key=k", "app|--api-key|***|--apikey=***|--api_key=***"},
		{"access key", "app|--access-key|k|--secret-access-key=k", "app|--access-key|***|--secret-access-key=***"},
		{"private key", "app|--private-key|/etc/key.pem", "app|--private-key|***"},
		{"auth", "http|--auth|u:p|--basic-auth=u:p", "http|--auth|***|--basic-auth=***"},
		{"credential", "app|--credentials=c", "app|--credentials=***"},
		{"one dash", "app|-password=x|-token|x", "app|-password=***|-token|***"},
		{"anybody's user", "app|--user=u:pw|--user|u:pw|--user|u|--user|1000:1000", "app|--user=u:***|--user|u:***|--user|u|--user|1000:1000"},
		{"requirepass", "redis-server|--requirepass|x|--bypass|y", "redis-server|--requirepass|***|--bypass|y"},
		{"cookie", "app|--cookie|sid=1|--cookie=sid=1|--cookie-jar|f", "app|--cookie|***|--cookie=***|--cookie-jar|f"},
		{"name:value", "app|Password:x|db.secret: y|user:x", "app|Password:***|db.secret: ***|user:x"},
		{"sk", "app|sk-abcdefghijklmnopqrstuv|--key=sk-ant-abcdefghijklmnopqr|task-abcdefghijklmnopqrstuvwx", "app|***|--key=***|task-abcdefghijklmnopqrstuvwx"},
		{"camel case", "app|--clientSecret=x|--dbPassword|x", "app|--clientSecret=***|--dbPassword|***"},
		{
			"Java property", "java|-Dspring.datasource.password=x|-Djavax.net.ssl.keyStorePassword=y|-jar|a.jar",
			"java|-Dspring.datasource.password=***|-Djavax.net.ssl.keyStorePassword=***|-jar|a.jar",
		},

		{"variable", "env|PASSWORD=x|PORT=80|app", "env|PASSWORD=***|PORT=80|app"},
		{
			"variables", "env|PGPASSWORD=a|MYSQL_PWD=b|AWS_SECRET_ACCESS_KEY=c|GH_TOKEN=d|APP_CREDENTIALS=e|REDISCLI_AUTH=f|MYAPP_DBPASS2=g",
			"env|PGPASSWORD=***|MYSQL_PWD=***|AWS_SECRET_ACCESS_KEY=***|GH_TOKEN=***|APP_CREDENTIALS=***|REDISCLI_AUTH=***|MYAPP_DBPASS2=***",
		},
		{
			"variable of docker", "docker|run|-e|PASSWORD=x|-eTOKEN=y|--env=API_KEY=z|-p|80:80|web",
			"docker|run|-e|PASSWORD=***|-eTOKEN=***|--env=API_KEY=***|-p|80:80|web",
		},
		{"value with a comma", "env|PASSWORD=a,b c", "env|PASSWORD=***"},
		{"KEYCLOAK with a password", "env|KEYCLOAK_ADMIN_PASSWORD=x|KEYCLOAK_ADMIN=admin", "env|KEYCLOAK_ADMIN_PASSWORD=***|KEYCLOAK_ADMIN=admin"},
		{"helm", "helm|install|--set|a=b,db.password=x,c=d", "helm|install|--set|a=b,db.password=***,c=d"},
		{"kubectl", "kubectl|create|secret|generic|s|--from-literal=password=x", "kubectl|create|secret|generic|s|--from-literal=password=***"},
		{"mount", "mount|-t|cifs|-o|username=u,password=x,uid=1|//h/s|/m", "mount|-t|cifs|-o|username=u,password=***,uid=1|//h/s|/m"},
		{"libpq", "psql|host=127.0.0.1 password='a b' dbname=d", "psql|host=127.0.0.1 password=*** dbname=d"},
		{"ADO", "app|Server=h;User Id=u;Password=x;Port=1", "app|Server=h;User Id=u;Password=***;Port=1"},

		{"mysql", "mysql|-uroot|-phunter2|db", "mysql|-uroot|-p***|db"},
		{"mysqldump by path", "/usr/bin/mysqldump|-p=x|db", "/usr/bin/mysqldump|-p***|db"},
		{"mariadb-dump under sudo", "sudo|-u|me|mariadb-dump|-px|db", "sudo|-u|me|mariadb-dump|-p***|db"},
		{"mysql that asks", "mysql|-p|db|--password|db", "mysql|-p|db|--password|db"},
		{"sshpass", "sshpass|-p|x|ssh|-p|22|h", "sshpass|-p|***|ssh|-p|22|h"},
		{"sshpass attached", "sshpass|-px|ssh|h", "sshpass|-p***|ssh|h"},
		{"redis-cli", "redis-cli|-h|127.0.0.1|-a|x|--pass|y|ping", "redis-cli|-h|127.0.0.1|-a|***|--pass|***|ping"},
		{"mongosh", "mongosh|-u|me|-p|x", "mongosh|-u|me|-p|***"},
		{"ldapsearch", "ldapsearch|-D|cn=a|-w|x", "ldapsearch|-D|cn=a|-w|***"},
		{"docker login", "docker|login|-u|me|-p|x", "docker|login|-u|me|-p|***"},
		{"openssl", "openssl|enc|-pass|pass:x|-passin|pass:y", "openssl|enc|-pass|***|-passin|pass:***"},
		{"curl user", "curl|-u|me:x|http://127.0.0.1/", "curl|-u|me:***|http://127.0.0.1/"},
		{"curl user attached", "curl|-ume:x|-U|p:q", "curl|-ume:***|-U|p:***"},
		{"curl user in full", "curl|--user|me:x|--proxy-user=p:q", "curl|--user|me:***|--proxy-user=p:***"},
		{"curl in a container", "docker|exec|web|curl|-u|me:x", "docker|exec|web|curl|-u|me:***"},

		{"URL", "app|postgres://u:p@h/db", "app|postgres://u:***@h/db"},
		{"URL without a user", "app|redis://:p@127.0.0.1:6379", "app|redis://:***@127.0.0.1:6379"},
		{"URL, password with @ and #", "app|postgres://u:p@s#s@h/db", "app|postgres://u:***@h/db"},
		{"URL in an option", "app|--url=amqp://u:p@h|--db|mysql://u:p@h/d", "app|--url=amqp://u:***@h|--db|mysql://u:***@h/d"},
		{"URLs in a list", "app|http://a:b@c,http://d:e@f", "app|http://a:***@c,http://d:***@f"},
		{"DSN of Go", "app|u:p@tcp(127.0.0.1:3306)/db", "app|u:***@tcp(127.0.0.1:3306)/db"},
		{"query", "curl|http://h/?a=1&access_token=x&b=2", "curl|http://h/?a=1&access_token=***&b=2"},

		{"authorization", "curl|-H|Authorization: Bearer xyz", "curl|-H|Authorization: Bearer ***"},
		{"authorization without a scheme", "curl|-H|authorization: xyz", "curl|-H|authorization: ***"},
		{"authorization, attached", "curl|-HAuthorization: Basic dTpw", "curl|-HAuthorization: Basic ***"},
		{"header in an option", "wget|--header=Proxy-Authorization: Digest a=b, c=d", "wget|--header=Proxy-Authorization: Digest ***"},
		{"key header", "curl|-H|X-Api-Key: abc|-H|Accept: */*", "curl|-H|X-Api-Key: ***|-H|Accept: */*"},
		{"other headers", "curl|-H|PRIVATE-TOKEN: a|-H|Cookie: sid=1; b=2|-H|X-Auth-Token:c", "curl|-H|PRIVATE-TOKEN: ***|-H|Cookie: ***|-H|X-Auth-Token:***"},
		{"JSON", `curl|-d|{"user":"u","password":"a\"b","n":1}`, `curl|-d|{"user":"u","password":"***","n":1}`},
		{"form", "curl|-d|user=u&password=x", "curl|-d|user=u&password=***"},

		{"AWS key", "app|AKIAIOSFODNN7EXAMPLE", "app|***"},
		{"GitHub tokens", "git|https://ghp_0123456789abcdefghijABCDEFGHIJ012345@example.test|github_pat_0123456789abcdefghij_X", "git|https://***@example.test|***"},
		{"JWT", "app|" + jwt + "|x", "app|***|x"},
		{"private key", "app|-----BEGIN RSA PRIVATE KEY-----\nMIIB", "app|-----BEGIN RSA PRIVATE KEY-----***"},

		{"shell", "sh|-c|mysql -psecret db && curl -u a:b http://h", "sh|-c|mysql -p*** db && curl -u a:*** http://h"},
		{"shell, quotes", `bash|-lc|app --password "a b"  --port 80`, `bash|-lc|app --password ***  --port 80`},
		{"shell, variable", "sh|-c|export PASSWORD='a b'; run", "sh|-c|export PASSWORD=*** run"},
		{"shell in a shell", `sh|-c|sh -c "sshpass -p x ssh h"`, `sh|-c|sh -c "sshpass -p *** ssh h"`},
		{"title", "app --token x --port 80", "app --token *** --port 80"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := RedactArgs(strings.Split(tc.args, "|"))
			if diff := cmp.Diff(strings.Split(tc.want, "|"), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRedactArgsLeavesAlone(t *testing.T) {
	for _, args := range []string{
		"",
		"nginx: worker process",
		"postgres: 16/main: app db 127.0.0.1(51234) idle",
		"nginx|-g|daemon off;",
		"app|--port=80|--host|127.0.0.1",
		"app|--keyfile-count|3",
		"app|--password-file=/run/secrets/pw|--token-file|/t",
		"docker|login|--password-stdin",
		"ansible-playbook|--ask-pass|site.yml",
		"psql|--no-password|db",
		"llm|--max-tokens|100|--tokenizer|bpe",
		"app|--pass-through|x|--passive|--bypass=1|--compass|n",
		"app|--keyspace|ks|--primary-key=id|--sort-key|a|--public-key=k|--keyboard=us|--key-count=2",
		"sort|--key=2|-k|1,2",
		"app|--author=me|--authority|x|--auth-url=http://h",
		"env|PWD=/home/me|OLDPWD=/|KEYBOARD=us|BYPASS=1|COMPASS=n|PATH=/bin",
		"mkdir|-p|/a/b",
		"ssh|-p|2222|me@h",
		"docker|run|-p|127.0.0.1:80:80|mysql",
		"mysqld|-p3306",
		"curl|-u|me|http://127.0.0.1:8080/a@b",
		"curl|-H|Content-Type: application/json|-o|x",
		"git|clone|git@example.test:a/b.git",
		"app|http://127.0.0.1:80/|[::1]:443",
		"python3|-c|import os; print(os.getpid())",
		"tar|-pczf|a.tgz|.",
		"gcc|-c|main.c",
		"app|a=b|c==d|=|--|-|---",
		"id|eyJhbGci|AKIA|ghp_short|AKIAIOSFODNN7EXAMPLEXYZ",
	} {
		t.Run(args, func(t *testing.T) {
			want := strings.Split(args, "|")
			if diff := cmp.Diff(want, RedactArgs(want)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRedactArgsKeepsItsInput(t *testing.T) {
	args := []string{"app", "--password", "x", "TOKEN=y"}
	before := slices.Clone(args)
	RedactArgs(args)
	if diff := cmp.Diff(before, args); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzRedactArgs(f *testing.F) {
	for _, seed := range []string{
		"sh|-c|sh -c 'sh -c \"mysql -px\"'", "app|--password=x", "curl|-u|a:b|-H|Cookie: a=b", "a=b=c|==|'|\"", "http://a:b@c", "-p|-c|-|--",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, joined string) {
		args := strings.Split(joined, "|")
		if got := RedactArgs(args); len(got) != len(args) {
			t.Fatalf("%d arguments became %d", len(args), len(got))
		}
		const password = "Tr0ub4dor"
		for _, arg := range RedactArgs(append(args, "--", "--password="+password)) {
			if strings.Contains(arg, password) {
				t.Errorf("leaked after %q", joined)
			}
		}
	})
}
