// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"fmt"
	"strings"
	"time"

	"ddtb/aaa/ldap"
)

// LDAP is [aaa.ldap]: the ISP's directory.
type LDAP struct {
	URLs         []string `toml:"urls"`
	StartTLS     bool     `toml:"start_tls"`
	CAFile       string   `toml:"ca_file"`
	ServerName   string   `toml:"server_name"`
	BindDN       string   `toml:"bind_dn"`
	PasswordFile string   `toml:"password_file"`
	Base         string   `toml:"base"`
	Filter       string   `toml:"filter"`
	Scope        string   `toml:"scope" one:"sub one"`
	GroupDN      string   `toml:"group_dn"`
	GroupFilter  string   `toml:"group_filter"`
	Secrets      bool     `toml:"read_secrets"`
	Timeout      Duration `toml:"timeout"`
	Dead         Duration `toml:"dead"`
	Searchers    int      `toml:"searchers"`
	Binders      int      `toml:"binders"`
	Map          LDAPMap  `toml:"map"`
}

// LDAPMap is [aaa.ldap.map]: the directory's names of what a subscriber has.
type LDAPMap struct {
	Name            []string `toml:"name"`
	Pool            []string `toml:"pool"`
	Prefix          []string `toml:"prefix"`
	Endpoint        []string `toml:"endpoint"`
	SessionLimit    []string `toml:"session_limit"`
	SessionTimeout  []string `toml:"session_timeout"`
	IdleTimeout     []string `toml:"idle_timeout"`
	InterimInterval []string `toml:"interim"`
	Class           []string `toml:"class"`
	Filter          []string `toml:"filter"`
	Rate            []string `toml:"rate"`
	Routes          []string `toml:"routes"`
	Reply           []string `toml:"reply"`
	Profile         []string `toml:"profile"`
	Disabled        []string `toml:"disabled"`
	Enabled         []string `toml:"enabled"`
	Password        []string `toml:"password"`
	HA1             []string `toml:"ha1"`
}

func defaultLDAP() LDAP {
	m := ldap.DefaultMap()
	return LDAP{
		Filter: "(uid={user})", Scope: "sub", Timeout: seconds(5), Dead: seconds(30), Searchers: 4, Binders: 16,
		Map: LDAPMap{
			Name: m.Name, Pool: m.Pool, Prefix: m.Prefix, Endpoint: m.Endpoint, SessionLimit: m.SessionLimit,
			SessionTimeout: m.SessionTimeout, IdleTimeout: m.IdleTimeout, InterimInterval: m.InterimInterval, Class: m.Class,
			Filter: m.Filter, Rate: m.Rate, Routes: m.Routes, Reply: m.Reply, Profile: m.Profile, Password: m.Password, HA1: m.HA1,
		},
	}
}

// Options puts the section into the words of aaa/ldap; files are not read.
func (c LDAP) Options() ldap.Options {
	m := c.Map
	return ldap.Options{
		URLs: c.URLs, StartTLS: c.StartTLS, BindDN: c.BindDN, Base: c.Base, Filter: c.Filter, Scope: ldap.Scope(c.Scope),
		GroupDN: c.GroupDN, GroupFilter: c.GroupFilter, ReadSecrets: c.Secrets,
		Timeout: c.Timeout.Duration, Dead: c.Dead.Duration, Searchers: c.Searchers, Binders: c.Binders,
		Map: ldap.Map{
			Name: m.Name, Pool: m.Pool, Prefix: m.Prefix, Endpoint: m.Endpoint, SessionLimit: m.SessionLimit,
			SessionTimeout: m.SessionTimeout, IdleTimeout: m.IdleTimeout, InterimInterval: m.InterimInterval, Class: m.Class,
			Filter: m.Filter, Rate: m.Rate, Routes: m.Routes, Reply: m.Reply, Profile: m.Profile, Disabled: m.Disabled, Enabled: m.Enabled, Password: m.Password, HA1: m.HA1,
		},
	}
}

func (c *LDAP) validate(doc *document) {
	o := c.Options()
	if c.PasswordFile != "" {
		absolute(doc, "aaa.ldap.password_file", c.PasswordFile)
		o.Password = "in the file"
	}
	if c.CAFile != "" {
		absolute(doc, "aaa.ldap.ca_file", c.CAFile)
	}
	within(doc, "aaa.ldap.timeout", c.Timeout, 100*time.Millisecond, time.Minute)
	within(doc, "aaa.ldap.dead", c.Dead, time.Second, time.Hour)
	if err := o.Validate(); err != nil {
		for text := range strings.SplitSeq(err.Error(), "\n") {
			key, what, _ := strings.Cut(text, ": ")
			doc.reject(fmt.Sprintf("aaa.ldap.%s", strings.Replace(key, "password", "password_file", 1)), "%s", what)
		}
	}
}
