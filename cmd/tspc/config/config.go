// SPDX-License-Identifier: GPL-2.0-or-later

// Package config reads what a subscriber wants of his tunnel: one strict TOML file, which flags can override.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"ddtb/cmd/tspc/agent"
	"ddtb/cmd/tspc/machine"
	"ddtb/cmd/tspc/tunnel"
	"ddtb/tsp"
	"ddtb/tsp/sasl"
)

// Config is the configuration file. contrib/tspc/tspc.toml explains every key.
type Config struct {
	Server       []string `toml:"server"`
	User         string   `toml:"user"`
	Password     string   `toml:"password"`
	PasswordFile string   `toml:"password_file"`
	Mechanism    string   `toml:"mechanism"`
	Tunnel       string   `toml:"tunnel"`
	Transport    string   `toml:"transport"`
	Keepalive    Duration `toml:"keepalive"`
	Interface    string   `toml:"interface"`
	MTU          int      `toml:"mtu"`
	Proto41      string   `toml:"proto41"`
	DefaultRoute string   `toml:"default_route"`
	Metric       int      `toml:"metric"`
	RunDir       string   `toml:"run_dir"`
	LogLevel     string   `toml:"log_level"`
	Router       Router   `toml:"router"`

	file string // it was read from, "" if from none
}

// Router is the part about delegating a prefix to LANs.
type Router struct {
	Enable       bool     `toml:"enable"`
	PrefixLength int      `toml:"prefix_length"`
	LAN          []string `toml:"lan"`
	Advertise    bool     `toml:"advertise"`
}

// Duration is a time.Duration written as "30s".
type Duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no duration like \"30s\"", text)
	}
	*d = Duration(v)
	return nil
}

// DefaultFile is read if no other is named.
const DefaultFile = "/etc/tspc/tspc.toml"

// Words of the file that stand for a choice of this program.
const (
	Any   = "any"      // mechanism: the best the server offers
	Auto  = "auto"     // transport, proto41: what works
	None  = "none"     // default_route: leave it
	sitOn = "sit"      // proto41: the kernel's device or nothing
	rawOn = "raw"      // proto41: a raw socket
	whole = "::/0"     // default_route: everything
	inUse = "2000::/3" // default_route: what IANA has given out
)

// Default is what holds where a file says nothing.
func Default() Config {
	return Config{
		Mechanism: Any, Tunnel: string(tsp.V6AnyV4), Transport: Auto, Keepalive: Duration(30 * time.Second),
		Interface: "tspc0", Proto41: Auto, DefaultRoute: whole, Metric: 2048, RunDir: "/run/tspc", LogLevel: "info",
		Router: Router{Advertise: true},
	}
}

// Load reads a file over the defaults. An error names file, line, key and what was expected.
func Load(path string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	c, err := Parse(b)
	if err != nil {
		return Config{}, fmt.Errorf("%s%w", path, err)
	}
	c.file = path
	return c, nil
}

// Parse reads the text of a file over the defaults. The error begins with the line, to go behind a file name.
func Parse(text []byte) (Config, error) {
	c := Default()
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // which some editors put before UTF-8
	err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&c)
	var unknown *toml.StrictMissingError
	var wrong *toml.DecodeError
	switch {
	case errors.As(err, &unknown):
		line, _ := unknown.Errors[0].Position()
		return Config{}, fmt.Errorf(":%d: unknown key %s", line, strings.Join(unknown.Errors[0].Key(), "."))
	case errors.As(err, &wrong):
		line, _ := wrong.Position()
		return Config{}, fmt.Errorf(":%d: %s: %s", line, strings.Join(wrong.Key(), "."), strings.TrimPrefix(wrong.Error(), "toml: "))
	case err != nil:
		return Config{}, fmt.Errorf(": %w", err)
	}
	return c, nil
}

// Validate checks what can be checked without the machine and the network. It reports everything that is wrong.
func (c Config) Validate() error {
	_, serverErr := c.Servers()
	_, mechanismErr := c.Mechanisms()
	_, routeErr := c.Route()
	errs := []error{serverErr, mechanismErr, routeErr}
	add := func(key string, format string, arguments ...any) {
		errs = append(errs, fmt.Errorf(key+": "+format, arguments...))
	}
	oneOf := func(key, value string, words ...string) {
		if !slices.Contains(words, value) {
			add(key, "%q, expected one of %s", value, strings.Join(words, ", "))
		}
	}
	oneOf("tunnel", c.Tunnel, string(tsp.V6AnyV4), string(tsp.V6UDPV4), string(tsp.V6V4))
	oneOf("transport", c.Transport, Auto, "udp", "tcp")
	oneOf("proto41", c.Proto41, Auto, sitOn, rawOn)
	oneOf("log_level", c.LogLevel, "debug", "info", "warn", "error")
	if c.Transport == "tcp" && c.Tunnel == string(tsp.V6UDPV4) {
		add("transport", "a v6udpv4 tunnel needs udp or auto")
	}
	if !validInterface(c.Interface) {
		add("interface", "%q is no interface name", c.Interface)
	}
	if c.MTU != 0 && (c.MTU < 1280 || c.MTU > tunnel.MaxMTU) {
		add("mtu", "%d, expected 1280 to %d, or 0 for what the server says", c.MTU, tunnel.MaxMTU)
	}
	if c.Keepalive < Duration(time.Second) || c.Keepalive > Duration(24*time.Hour) {
		add("keepalive", "%v, expected 1s to 24h", time.Duration(c.Keepalive))
	}
	if c.Metric < 1 || c.Metric >= 1<<30 {
		add("metric", "%d, expected 1 to %d", c.Metric, 1<<30-1)
	}
	if !strings.HasPrefix(c.RunDir, "/") {
		add("run_dir", "%q, expected an absolute path", c.RunDir)
	}
	if c.Password != "" && c.PasswordFile != "" {
		add("password", "given together with password_file")
	}
	return errors.Join(append(errs, c.validateRouter())...)
}

func (c Config) validateRouter() error {
	r := c.Router
	if !r.Enable {
		if r.PrefixLength != 0 || len(r.LAN) != 0 {
			return errors.New("router: enable is not true, but other keys are set")
		}
		return nil
	}
	var errs []error
	if r.PrefixLength != 0 && (r.PrefixLength < 32 || r.PrefixLength > 64) {
		errs = append(errs, fmt.Errorf("router.prefix_length: %d, expected 32 to 64, or 0 for what the server gives", r.PrefixLength))
	}
	for i, lan := range r.LAN {
		if !validInterface(lan) || lan == c.Interface || slices.Contains(r.LAN[:i], lan) {
			errs = append(errs, fmt.Errorf("router.lan: %q is no interface name, the tunnel's, or there twice", lan))
		}
	}
	if len(r.LAN) > 16 {
		errs = append(errs, fmt.Errorf("router.lan: %d interfaces, expected at most 16", len(r.LAN)))
	}
	return errors.Join(errs...)
}

// validInterface says whether Linux takes s for an interface; it also is part of file names.
func validInterface(s string) bool {
	return s != "" && len(s) <= 15 && s != "." && s != ".." && s != "all" && s != "default" &&
		!strings.ContainsAny(s, "/: \t\n\r\x00%")
}

// Servers reads the list of servers: names or IPv4 addresses, with or without port.
func (c Config) Servers() ([]agent.Server, error) {
	if len(c.Server) == 0 {
		return nil, errors.New("server: none given, expected host or host:port")
	}
	var servers []agent.Server
	for _, s := range c.Server {
		server, err := parseServer(s)
		if err != nil {
			return nil, fmt.Errorf("server: %q: %w", s, err)
		}
		servers = append(servers, server)
	}
	return servers, nil
}

func parseServer(s string) (agent.Server, error) {
	host, port := s, uint64(agent.DefaultPort)
	if h, p, err := net.SplitHostPort(s); err == nil {
		host = h
		if port, err = strconv.ParseUint(p, 10, 16); err != nil || port == 0 {
			return agent.Server{}, errors.New("the port is no number from 1 to 65535")
		}
	}
	if a, err := netip.ParseAddr(host); err == nil && !a.Unmap().Is4() {
		return agent.Server{}, errors.New("tunnels to an IPv6 address are not supported, expected an IPv4 address or a name")
	}
	if host == "" || strings.ContainsAny(host, " /@[]:\t") {
		return agent.Server{}, errors.New("expected host or host:port")
	}
	return agent.Server{Host: host, Port: uint16(port)}, nil
}

// Mechanisms gives the SASL mechanisms that may be used; nil stands for the best one the server offers. Without a user
// only ANONYMOUS makes sense.
func (c Config) Mechanisms() ([]sasl.Mechanism, error) {
	m := sasl.Mechanism(strings.ToUpper(c.Mechanism))
	switch m {
	case "ANY":
		if c.User == "" {
			return []sasl.Mechanism{sasl.Anonymous}, nil
		}
		return nil, nil
	case sasl.Anonymous:
		return []sasl.Mechanism{m}, nil
	case sasl.Plain, sasl.DigestMD5, sasl.CramMD5:
		if c.User == "" {
			return nil, fmt.Errorf("user: empty, but mechanism %s needs one", c.Mechanism)
		}
		return []sasl.Mechanism{m}, nil
	}
	return nil, fmt.Errorf("mechanism: %q, expected any, digest-md5, cram-md5, plain or anonymous", c.Mechanism)
}

// Route gives what is routed into the tunnel; it is not valid if nothing is.
func (c Config) Route() (netip.Prefix, error) {
	switch c.DefaultRoute {
	case None:
		return netip.Prefix{}, nil
	case whole, inUse:
		return netip.MustParsePrefix(c.DefaultRoute), nil
	}
	return netip.Prefix{}, fmt.Errorf("default_route: %q, expected %q, %q or %q", c.DefaultRoute, whole, inUse, None)
}

// Request is what the server is asked for.
func (c Config) Request() tsp.Request {
	return tsp.Request{
		Type: tsp.TunnelType(c.Tunnel), Keepalive: time.Duration(c.Keepalive),
		Router: c.Router.Enable, PrefixLen: c.Router.PrefixLength,
	}
}

// Network is the transport of the dialogue in the words of tsp.Client.Dial. A v6udpv4 tunnel exists over UDP alone.
func (c Config) Network() string {
	switch {
	case c.Transport == "tcp":
		return "tcp4"
	case c.Transport == "udp", c.Tunnel == string(tsp.V6UDPV4):
		return "udp4"
	}
	return ""
}

// Encapsulator says who makes protocol 41 packets of a v6v4 tunnel.
func (c Config) Encapsulator() machine.Proto41 {
	switch c.Proto41 {
	case sitOn:
		return machine.Kernel
	case rawOn:
		return machine.Raw
	}
	return machine.Whichever
}
