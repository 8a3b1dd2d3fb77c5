package segue_test

import (
	"strings"
	"testing"
	"time"

	"segue.test/clients/go/segue"
)

func TestURLsAreRead(t *testing.T) {
	for text, expected := range map[string]segue.Config{
		"segue://db:7500":              {Address: "db:7500"},
		"segue://":                     {Address: "127.0.0.1:7400"},
		"segue://[::1]:7500/":          {Address: "[::1]:7500"},
		"segue+unix:///run/segue.sock": {Address: "/run/segue.sock"},
		"segue://db?connect_timeout=2s&retry_timeout=5s&idempotency_keys=false&routing_key=u": {
			Address: "db:7400", ConnectTimeout: 2 * time.Second, RetryTimeout: 5 * time.Second,
			NoIdempotencyKeys: true, RoutingKey: "u",
		},
		"segue://db?retry_timeout=0s": {Address: "db:7400", RetryTimeout: -1},
		// As other clients write them.
		"segue://db?connect_timeout=2.5&retry=off&idempotency=off": {
			Address: "db:7400", ConnectTimeout: 2500 * time.Millisecond, RetryTimeout: -1, NoIdempotencyKeys: true,
		},
		"segue://db?retry_timeout=5": {Address: "db:7400", RetryTimeout: 5 * time.Second},
	} {
		found, err := segue.ParseURL(text)
		must(t, err)
		equal(t, text, found, expected)
	}
	secure, err := segue.ParseURL("segue+tls://db?server_name=other")
	must(t, err)
	equal(t, "server name", secure.TLS.ServerName, "other")
}

func TestAWrongURLSaysWhatIsWrong(t *testing.T) {
	for text, expected := range map[string]string{
		"postgres://db":                          `scheme is "postgres"`,
		"segue://db/shop":                        "has a path",
		"segue://user:secret@db":                 "names a user",
		"segue://db?colour=red":                  "option colour: is not known",
		"segue://db?connect_timeout=soon":        "option connect_timeout",
		"segue://db?connect_timeout=-1s":         "must be above zero",
		"segue://db?connect_timeout=":            "option connect_timeout",
		"segue://db?connect_timeout=1e3":         "option connect_timeout",
		"segue://db?retry=maybe":                 `option retry: is "maybe"`,
		"segue://db?retry=true&retry_timeout=1s": "exclude each other",
		"segue://db?ca_file=/x":                  "for segue+tls only",
		"segue+tls://db?ca_file=/no/such/file":   "option ca",
		"segue+tls://db?ca=/x&ca_file=/x":        "option ca is given 2 times",
		"segue://db?idempotency=maybe":           "option idempotency_keys",
		"segue://db?ca=/x":                       "for segue+tls only",
		"segue+tls://db?ca=/no/such/file":        "option ca",
		"segue+tls://db?cert=/x":                 "go together",
		"segue+unix://host/path":                 "does not name a socket",
		"segue://db?routing_key=a&routing_key=b": "given 2 times",
		"segue://db:99999":                       "99999",
	} {
		_, err := segue.ParseURL(text)
		if err == nil || !strings.Contains(err.Error(), expected) {
			t.Errorf("%s: found %v, expected %q", text, err, expected)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error repeats a secret: %v", text, err)
		}
	}
}
