// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"fmt"
	"strings"
	"time"

	"ddtb/provision/redis"
)

// Redis is [redis]: the server, the Sentinels or the cluster that tunnel servers share.
type Redis struct {
	Addresses            []string `toml:"addresses"`
	Sentinel             string   `toml:"sentinel"`
	Cluster              bool     `toml:"cluster"`
	Database             int      `toml:"database"`
	Username             string   `toml:"username"`
	PasswordFile         string   `toml:"password_file"`
	SentinelUsername     string   `toml:"sentinel_username"`
	SentinelPasswordFile string   `toml:"sentinel_password_file"`

	TLS        bool   `toml:"tls"`
	CAFile     string `toml:"ca_file"`
	ServerName string `toml:"server_name"`
	CertFile   string `toml:"cert_file"`
	KeyFile    string `toml:"key_file"`

	Timeout     Duration `toml:"timeout"`
	Connections int      `toml:"connections"`
}

func defaultRedis() Redis {
	return Redis{Timeout: Duration{redis.DefaultTimeout}, Connections: redis.DefaultConnections}
}

// Used tells whether there is a Redis.
func (c Redis) Used() bool { return len(c.Addresses) > 0 }

// Options puts the section into the words of provision/redis; files are not read.
func (c Redis) Options() redis.Options {
	return redis.Options{
		Addresses: c.Addresses, Master: c.Sentinel, Cluster: c.Cluster, Database: c.Database, Username: c.Username,
		SentinelUsername: c.SentinelUsername, Timeout: c.Timeout.Duration, Connections: c.Connections,
	}
}

func (c *Redis) validate(doc *document) {
	within(doc, "redis.timeout", c.Timeout, 10*time.Millisecond, 30*time.Second)
	between(doc, "redis.connections", c.Connections, 1, 4096)
	for key, file := range map[string]string{
		"password_file": c.PasswordFile, "sentinel_password_file": c.SentinelPasswordFile,
		"ca_file": c.CAFile, "cert_file": c.CertFile, "key_file": c.KeyFile,
	} {
		if file != "" {
			absolute(doc, "redis."+key, file)
		}
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		doc.reject("redis.cert_file", "expected cert_file and key_file, or neither")
	}
	if !c.TLS && c.CAFile+c.CertFile+c.KeyFile+c.ServerName != "" {
		doc.reject("redis.tls", "false, but a key of TLS is given")
	}
	if !c.Used() {
		return
	}
	o := c.Options()
	if c.PasswordFile != "" {
		o.Password = "in the file"
	}
	if err := o.Validate(); err != nil {
		for text := range strings.SplitSeq(err.Error(), "\n") {
			key, what, _ := strings.Cut(text, ": ")
			doc.reject(fmt.Sprintf("redis.%s", key), "%s", what)
		}
	}
}
