// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"net/netip"
	"path/filepath"
)

// Control is [control]: the socket that ddtbctl speaks to.
type Control struct {
	Socket string `toml:"socket"`
	Group  string `toml:"group"`
}

// maxSocketPath is what sun_path holds, less the NUL (unix(7)).
const maxSocketPath = 107

func (c *Control) validate(doc *document) {
	if !filepath.IsAbs(c.Socket) || len(c.Socket) > maxSocketPath {
		doc.reject("control.socket", "%q: expected an absolute path of at most %d octets", c.Socket, maxSocketPath)
	}
}

// Metrics is [metrics]: the HTTP listener for Prometheus and health checks.
type Metrics struct {
	Listen string `toml:"listen"`
}

func (c *Metrics) validate(doc *document) {
	if c.Listen == "" {
		return
	}
	if _, err := netip.ParseAddrPort(c.Listen); err != nil {
		doc.reject("metrics.listen", `%q: expected an address and port such as "127.0.0.1:9653", or "" for none`, c.Listen)
	}
}

// Log is [log].
type Log struct {
	Level  string `toml:"level" one:"debug info warn error" reload:""`
	Format string `toml:"format" one:"auto human json"`
}
