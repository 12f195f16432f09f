// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"time"

	"ddtb/aaa/radius"
)

// RADIUS is [aaa.radius]: the ISP's RADIUS servers, for logins and for accounting.
type RADIUS struct {
	Servers       []RADIUSServer `toml:"server"`
	Accounting    []RADIUSServer `toml:"accounting"`
	NASIdentifier string         `toml:"nas_identifier"`
	NASAddress    netip.Addr     `toml:"nas_address"`

	AccountingOn bool `toml:"accounting_on"`

	Digest      string   `toml:"digest" one:"off radius-sasl radius-ha1"`
	DigestStyle string   `toml:"digest_style" one:"sterman rfc5090"`
	DigestForce bool     `toml:"digest_force"`
	Cram        bool     `toml:"cram"`
	Vendor      uint32   `toml:"vendor"`
	Rates       []string `toml:"rates" one:"filter-id mikrotik wispr cisco"`
	Guest       string   `toml:"guest"`
	GuestFile   string   `toml:"guest_password_file"`

	Retransmit Duration `toml:"retransmit"`
	Tries      int      `toml:"tries"`
	Timeout    Duration `toml:"timeout"`
	Dead       Duration `toml:"dead"`
}

// RADIUSServer is one [[aaa.radius.server]] or [[aaa.radius.accounting]].
type RADIUSServer struct {
	Address              string `toml:"address"`
	SecretFile           string `toml:"secret_file"`
	Priority             int    `toml:"priority"`
	Weight               int    `toml:"weight"`
	InFlight             int    `toml:"in_flight"`
	MessageAuthenticator string `toml:"message_authenticator" one:"auto yes no"`
	NoStatus             bool   `toml:"no_status"`

	TLS        bool   `toml:"tls"`
	CAFile     string `toml:"ca_file"`
	CertFile   string `toml:"cert_file"`
	KeyFile    string `toml:"key_file"`
	ServerName string `toml:"server_name"`
}

func defaultRADIUS() RADIUS {
	return RADIUS{
		AccountingOn: true, Digest: "off", DigestStyle: "sterman", Vendor: 32473, Rates: []string{"filter-id", "mikrotik", "wispr", "cisco"},
		Retransmit: seconds(2), Tries: 2, Timeout: seconds(30), Dead: seconds(60),
	}
}

// complete fills in what a server's entry leaves out.
func (c *RADIUS) complete() {
	for _, list := range [][]RADIUSServer{c.Servers, c.Accounting} {
		for i := range list {
			if list[i].Weight == 0 {
				list[i].Weight = 1
			}
			if list[i].InFlight == 0 {
				list[i].InFlight = radius.DefaultInFlight
			}
			if list[i].MessageAuthenticator == "" {
				list[i].MessageAuthenticator = "auto"
			}
		}
	}
}

func (c *RADIUS) validate(doc *document, logins, accounting bool) {
	if logins && len(c.Servers) == 0 {
		doc.reject("aaa.radius", "no [[aaa.radius.server]], but aaa.backends names radius")
	}
	if accounting && len(c.Accounting) == 0 {
		doc.reject("aaa.radius", `no [[aaa.radius.accounting]], but aaa.accounting is "radius"`)
	}
	secured := true
	for i := range c.Servers {
		c.Servers[i].validate(doc, fmt.Sprintf("aaa.radius.server[%d]", i))
		secured = secured && c.Servers[i].TLS
	}
	for i := range c.Accounting {
		c.Accounting[i].validate(doc, fmt.Sprintf("aaa.radius.accounting[%d]", i))
	}
	if c.Digest == "radius-ha1" && !secured && !c.DigestForce {
		doc.reject("aaa.radius.digest", `"radius-ha1": password equivalents travel: expected tls = true for every server, or digest_force`)
	}
	if (c.Guest == "") != (c.GuestFile == "") {
		doc.reject("aaa.radius.guest", "expected guest and guest_password_file, or neither")
	}
	if c.GuestFile != "" {
		absolute(doc, "aaa.radius.guest_password_file", c.GuestFile)
	}
	distinct(doc, "aaa.radius.rates", c.Rates)
	within(doc, "aaa.radius.retransmit", c.Retransmit, 100*time.Millisecond, 16*time.Second)
	within(doc, "aaa.radius.timeout", c.Timeout, time.Second, time.Minute)
	within(doc, "aaa.radius.dead", c.Dead, time.Second, time.Hour)
	between(doc, "aaa.radius.tries", c.Tries, 1, 10)
}

func (c *RADIUSServer) validate(doc *document, path string) {
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		doc.reject(path+".address", `%q: expected host and port such as "192.0.2.10:1812"`, c.Address)
	}
	switch {
	case c.SecretFile != "":
		absolute(doc, path+".secret_file", c.SecretFile)
	case !c.TLS:
		doc.reject(path+".secret_file", "missing: expected a file that holds the shared secret")
	}
	between(doc, path+".weight", c.Weight, 1, 1000)
	between(doc, path+".in_flight", c.InFlight, 1, 4096)
	if !c.TLS && c.CAFile+c.CertFile+c.KeyFile+c.ServerName != "" {
		doc.reject(path+".tls", "false, but a key of TLS is given")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		doc.reject(path+".cert_file", "expected cert_file and key_file, or neither")
	}
	for key, file := range map[string]string{"ca_file": c.CAFile, "cert_file": c.CertFile, "key_file": c.KeyFile} {
		if file != "" {
			absolute(doc, path+"."+key, file)
		}
	}
}

// Dynamic is [aaa.dynamic]: who may change and end sessions by RADIUS (RFC 5176).
type Dynamic struct {
	Listen  string          `toml:"listen"`
	Signed  bool            `toml:"signed"`
	Window  Duration        `toml:"window"`
	Clients []DynamicClient `toml:"client"`
}

// DynamicClient is one [[aaa.dynamic.client]].
type DynamicClient struct {
	Source     netip.Prefix `toml:"source"`
	SecretFile string       `toml:"secret_file"`
	Requests   []string     `toml:"requests" one:"disconnect change"`
}

// complete fills in what a client's entry leaves out.
func (c *Dynamic) complete() {
	for i := range c.Clients {
		if c.Clients[i].Requests == nil {
			c.Clients[i].Requests = []string{"disconnect", "change"}
		}
	}
}

func (c *Dynamic) validate(doc *document) {
	if c.Listen == "" {
		return
	}
	if _, err := netip.ParseAddrPort(c.Listen); err != nil {
		doc.reject("aaa.dynamic.listen", `%q: expected an address and port such as "192.0.2.1:3799", or "" for none`, c.Listen)
	}
	if len(c.Clients) == 0 {
		doc.reject("aaa.dynamic", "no [[aaa.dynamic.client]]: nobody may ask")
	}
	for i, client := range c.Clients {
		path := fmt.Sprintf("aaa.dynamic.client[%d]", i)
		if !client.Source.IsValid() {
			doc.reject(path+".source", `missing: expected the client's address such as "192.0.2.10/32"`)
		}
		absolute(doc, path+".secret_file", client.SecretFile)
		distinct(doc, path+".requests", client.Requests)
	}
	if c.Window.Duration != 0 {
		within(doc, "aaa.dynamic.window", c.Window, time.Second, time.Hour)
	}
}

// absolute demands the absolute path of a file.
func absolute(doc *document, key, path string) {
	if !filepath.IsAbs(path) {
		doc.reject(key, "%q: expected the absolute path of a file", path)
	}
}

// between demands a number of a range.
func between(doc *document, key string, n, low, high int) {
	if n < low || n > high {
		doc.reject(key, "%d: expected %d to %d", n, low, high)
	}
}
