// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"os"
	"slices"

	"ddtb/cmd/ddtb/config"
)

// checkSecrets looks at the files of secrets that are used: whether they can be read, and by whom else.
func checkSecrets(c config.Config) []finding {
	files := secrets(c)
	slices.Sort(files)
	var all []finding
	for _, file := range slices.Compact(files) {
		if file != "" {
			all = append(all, checkSecret(file))
		}
	}
	return all
}

// secrets are the files, "" among them.
func secrets(c config.Config) (files []string) {
	var servers []config.RADIUSServer
	if slices.Contains(c.AAA.Backends, "radius") {
		servers, files = c.AAA.RADIUS.Servers, []string{c.AAA.RADIUS.GuestFile}
	}
	if c.AAA.Accounting == "radius" {
		servers = slices.Concat(servers, c.AAA.RADIUS.Accounting)
	}
	for _, server := range servers {
		files = append(files, server.SecretFile, server.KeyFile)
	}
	if slices.Contains(c.AAA.Backends, "ldap") {
		files = append(files, c.AAA.LDAP.PasswordFile)
	}
	if c.AAA.Dynamic.Listen != "" {
		for _, client := range c.AAA.Dynamic.Clients {
			files = append(files, client.SecretFile)
		}
	}
	if c.Redis.Used() {
		files = append(files, c.Redis.PasswordFile, c.Redis.SentinelPasswordFile, c.Redis.KeyFile)
	}
	return files
}

func checkSecret(file string) finding {
	f := finding{what: "secret " + file, detail: "read by those who may"}
	if _, err := readSecret(file); err != nil {
		f.bad, f.detail = true, err.Error()
		return f
	}
	info, err := os.Stat(file)
	switch {
	case err != nil:
		f.bad, f.detail = true, err.Error()
	case info.Mode().Perm()&0o007 != 0:
		f.what, f.lacks = "protection of secret "+file, true
		f.detail = "everybody on this host may read or change it; chmod o= " + file
	}
	return f
}
