package segue

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	defaultPort = "7400"
	// A sidecar that is restarted beside its application is back within seconds.
	defaultConnectTimeout = 10 * time.Second
	// A cutover holds writes for at most ten seconds (cutover.hold_limit).
	defaultRetryTimeout = 30 * time.Second
)

// Config says which sidecar to call, and how. [ParseURL] makes one.
type Config struct {
	// Address is host:port, or the path of a Unix socket, which begins with a slash.
	Address string
	// TLS is nil for a connection without it.
	TLS *tls.Config
	// ConnectTimeout is how long a call waits for a sidecar that is not up; 10 s where it is zero.
	// The call's own deadline takes precedence where it is nearer.
	ConnectTimeout time.Duration
	// RetryTimeout is how long a call is repeated that may be repeated; 30 s where it is zero, not at
	// all where it is negative.
	RetryTimeout time.Duration
	// NoIdempotencyKeys turns the keys off that single writes have by default. A write whose answer was
	// lost is not repeated then.
	NoIdempotencyKeys bool
	// RoutingKey is that of reads whose context has none: see [WithRoutingKey].
	RoutingKey string
	// Tracer makes spans of the calls; nil stands for what [RegisterTracer] was given.
	Tracer Tracer
}

// ParseURL reads
//
//	segue://host:port?option=value&…
//	segue+tls://host:port?…
//	segue+unix:///path/of/socket?…
//
// Port 7400 and host 127.0.0.1 may be left out. The options are connect_timeout and retry_timeout
// (durations: 500ms, 10s; without a unit in seconds), retry and idempotency_keys (true, false), routing_key,
// and for TLS ca, cert and key (files in PEM) and server_name. Other names that the clients of segue had for
// some (idempotency, ca_file, cert_file, key_file) are read as well. What is not known is an error.
func ParseURL(text string) (Config, error) {
	config, err := parseURL(text)
	if err != nil {
		return Config{}, fmt.Errorf("segue: URL %q: %w", redacted(text), err)
	}
	return config, nil
}

// redacted leaves out what may be secret.
func redacted(text string) string {
	address, _, _ := strings.Cut(text, "?")
	if at := strings.LastIndex(address, "@"); at >= 0 {
		address = "…" + address[at:]
	}
	return address
}

func parseURL(text string) (Config, error) {
	parsed, err := url.Parse(text)
	if err != nil {
		// What url.Parse says repeats the text.
		return Config{}, errors.New("it is not a URL; expected segue://host:port")
	}
	config := Config{}
	options, err := parseOptions(parsed.RawQuery)
	if err != nil {
		return Config{}, err
	}
	if parsed.User != nil {
		return Config{}, errors.New("it names a user; the sidecar's own configuration says as whom statements run")
	}
	switch parsed.Scheme {
	case "segue", "segue+tls":
		if parsed.Path != "" && parsed.Path != "/" {
			return Config{}, fmt.Errorf("it has a path %q; the sidecar's configuration names the database", parsed.Path)
		}
		if err := config.setHost(parsed); err != nil {
			return Config{}, err
		}
		if parsed.Scheme == "segue+tls" {
			if config.TLS, err = tlsConfig(options); err != nil {
				return Config{}, err
			}
		}
	case "segue+unix":
		if parsed.Host != "" || !strings.HasPrefix(parsed.Path, "/") {
			return Config{}, errors.New("it does not name a socket; expected segue+unix:///path/of/socket")
		}
		config.Address = parsed.Path
	default:
		return Config{}, fmt.Errorf("its scheme is %q; expected segue, segue+tls or segue+unix", parsed.Scheme)
	}
	return config, config.setOptions(options)
}

// otherNames are those that other clients of segue have, or had, for an option.
var otherNames = map[string]string{
	"idempotency": "idempotency_keys", "ca_file": "ca", "cert_file": "cert", "key_file": "key",
}

// parseOptions reads the options by their documented names. Each is there once.
func parseOptions(query string) (url.Values, error) {
	given, err := url.ParseQuery(query)
	if err != nil {
		return nil, fmt.Errorf("its options cannot be read: %w", err)
	}
	options := url.Values{}
	for name, values := range given {
		if documented, found := otherNames[name]; found {
			name = documented
		}
		options[name] = append(options[name], values...)
		if count := len(options[name]); count != 1 {
			return nil, fmt.Errorf("option %s is given %d times", name, count)
		}
	}
	if options.Has("retry") && options.Has("retry_timeout") {
		return nil, errors.New("options retry and retry_timeout exclude each other")
	}
	return options, nil
}

func (c *Config) setHost(parsed *url.URL) error {
	host, port := parsed.Hostname(), parsed.Port()
	if host == "" {
		host = "127.0.0.1"
	}
	if port == "" {
		port = defaultPort
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("its port is %q; expected a number to 65535", port)
	}
	c.Address = net.JoinHostPort(host, port)
	return nil
}

func (c *Config) setOptions(options url.Values) error {
	for name, values := range options {
		if err := c.setOption(name, values[0]); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) setOption(name, value string) (err error) {
	switch name {
	case "connect_timeout":
		c.ConnectTimeout, err = parseDuration(value)
		if err == nil && c.ConnectTimeout <= 0 {
			err = errors.New("must be above zero")
		}
	case "retry_timeout":
		c.RetryTimeout, err = parseDuration(value)
		if err == nil && c.RetryTimeout == 0 {
			c.RetryTimeout = -1
		}
	case "retry":
		var wanted bool
		if wanted, err = parseFlag(value); err == nil && !wanted {
			c.RetryTimeout = -1
		}
	case "idempotency_keys":
		var wanted bool
		wanted, err = parseFlag(value)
		c.NoIdempotencyKeys = !wanted
	case "routing_key":
		c.RoutingKey = value
	case "ca", "cert", "key", "server_name":
		if c.TLS == nil {
			err = errors.New("is for segue+tls only")
		}
	default:
		err = errors.New("is not known; there are connect_timeout, retry_timeout, retry, idempotency_keys, routing_key, ca, cert, key and server_name")
	}
	if err != nil {
		return fmt.Errorf("option %s: %w", name, err)
	}
	return nil
}

// parseDuration reads a duration; a number without a unit is one of seconds.
func parseDuration(text string) (time.Duration, error) {
	if strings.Trim(text, "0123456789.") == "" {
		text += "s"
	}
	return time.ParseDuration(text)
}

func parseFlag(text string) (bool, error) {
	switch text {
	case "on":
		return true, nil
	case "off":
		return false, nil
	}
	wanted, err := strconv.ParseBool(text)
	if err != nil {
		return false, fmt.Errorf("is %q; expected true or false", text)
	}
	return wanted, nil
}

func tlsConfig(options url.Values) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: options.Get("server_name")}
	if file := options.Get("ca"); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("option ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("option ca: %s has no certificate in PEM", file)
		}
	}
	cert, key := options.Get("cert"), options.Get("key")
	if (cert == "") != (key == "") {
		return nil, errors.New("options cert and key go together")
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("options cert and key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func (c Config) connectTimeout() time.Duration {
	if c.ConnectTimeout > 0 {
		return c.ConnectTimeout
	}
	return defaultConnectTimeout
}

func (c Config) retryTimeout() time.Duration {
	if c.RetryTimeout == 0 {
		return defaultRetryTimeout
	}
	return max(c.RetryTimeout, 0)
}
