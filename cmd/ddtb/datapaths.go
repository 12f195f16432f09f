// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"ddtb/cmd/ddtb/config"
	"ddtb/provision/datapath"
	"ddtb/provision/datapath/utun"
	"ddtb/provision/datapath/xdp"
)

func openXDP(c config.Datapath, log zerolog.Logger) (datapath.Datapath, error) {
	return xdp.New(xdp.Options{Mode: xdp.Mode(c.Mode), NextHop: xdp.NextHop(c.NextHop), DSCP: xdp.DSCP(c.DSCP), Logger: log})
}

func openUTUN(c config.Datapath, log zerolog.Logger) (datapath.Datapath, error) {
	return utun.New(utun.Options{Layout: utun.Layout(c.Layout), DSCP: utun.DSCP(c.DSCP), Logger: log})
}

// openAuto takes the kernel module if it is there. Tunnels that eBPF already carries stay with it: a module that was installed
// meanwhile waits for the next boot, or for `ddtb remove`.
func openAuto(c config.Datapath, log zerolog.Logger) (datapath.Datapath, error) {
	if _, others := utun.InForce(c.Device); others {
		return openXDP(c, log)
	}
	dp, err := openUTUN(c, log)
	if errors.Is(err, datapath.ErrNotSupported) {
		return openXDP(c, log)
	}
	return dp, err
}

// removeAny removes what either driver left.
func removeAny(ctx context.Context, c datapath.Config, log zerolog.Logger) error {
	if ours, _ := utun.InForce(c.Device); ours {
		return utun.Remove(ctx, c, log)
	}
	return xdp.Remove(ctx, c, log)
}

func openNull(config.Datapath, zerolog.Logger) (datapath.Datapath, error) {
	return datapath.NewNull(time.Now), nil
}

func removeNothing(context.Context, datapath.Config, zerolog.Logger) error { return nil }

func probeXDP(c datapath.Config) []finding {
	var all []finding
	for _, check := range xdp.Probe(c) {
		all = append(all, finding{what: check.Name, detail: check.Detail, bad: !check.OK && check.Required, lacks: !check.OK && !check.Required})
	}
	return all
}

func probeUTUN(c datapath.Config) []finding {
	var all []finding
	for _, check := range utun.Probe(c) {
		all = append(all, finding{what: check.Name, detail: check.Detail, bad: !check.OK})
	}
	return all
}

// probeAuto looks at what openAuto would take.
func probeAuto(c datapath.Config) []finding {
	const module = "kernel module utun"
	if _, others := utun.InForce(c.Device); others {
		return append([]finding{{what: module, lacks: true, detail: "not looked for: tunnels are in force without it"}}, probeXDP(c)...)
	}
	if err := utun.Available(); err != nil {
		return append([]finding{{what: module, lacks: true, detail: "xdp is used instead: " + err.Error()}}, probeXDP(c)...)
	}
	return probeUTUN(c)
}

func probeNothing(datapath.Config) []finding { return nil }

// describe names the datapath for people.
func describe(dp datapath.Datapath, c config.Datapath) string {
	switch dp.(type) {
	case *utun.Driver:
		return fmt.Sprintf("utun on device %s, layout %s", c.Device, c.Layout)
	case *xdp.Driver:
		return fmt.Sprintf("xdp on %s, mode %s, next hop %s", strings.Join(slices.Compact(append(slices.Clone(c.Uplinks), c.Cores...)), ", "), c.Mode, c.NextHop)
	}
	return "null, which moves no packet"
}
