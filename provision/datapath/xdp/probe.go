// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

// Check is one thing the datapath needs or likes to have of the kernel.
type Check struct {
	Name     string // what it is, "native XDP on eth0"
	OK       bool
	Required bool   // without it Configure fails
	Detail   string // what was found, or what to do about it
}
