// SPDX-License-Identifier: GPL-2.0-or-later

// Command demo shows ddtb at work in a small Internet of network namespaces, step by step and in plain words. Each step
// is checked: what does not work ends the demo with the reason and exit status 1. Whatever happens, nothing is left.
//
// There are two plays: "demo", one server with what it needs to start with, and "lab", an ISP with two servers, FreeRADIUS,
// an LDAP directory, Redis and BIRD.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"ddtb/cmd/ddtb/e2e"
)

// Exit codes.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	bin := flag.String("bin", "bin", "`folder` of the built programs")
	contrib := flag.String("contrib", "contrib", "`folder` of the files for other programs, for the lab")
	name := flag.String("play", "demo", "what is `shown`: demo or lab")
	flag.Parse()
	if flag.NArg() > 0 || *name != "demo" && *name != "lab" {
		flag.Usage()
		os.Exit(exitUsage)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	begin := time.Now()
	err := play(ctx, *name, *bin, *contrib)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "\ninterrupted; everything is cleaned up")
		os.Exit(exitInterrupted)
	case err != nil:
		fmt.Fprintf(os.Stderr, "\nThe %s failed: %v\n", *name, err)
		os.Exit(exitFailed)
	}
	fmt.Printf("\nAll of it worked, in %.0f seconds, and nothing is left behind.\n", time.Since(begin).Seconds())
}

// play raises the Internet, plays all scenes and takes the Internet down again, also when a scene fails or ctx ends.
func play(ctx context.Context, name, bin, contrib string) error {
	internet, err := e2e.Raise(name, 0)
	if err != nil {
		return err
	}
	defer internet.Close()
	isp, err := e2e.NewISP(internet, bin, e2e.Settings{"session": "sweep = \"1s\"\n"})
	if err != nil {
		return err
	}
	stage := &stage{ctx: ctx, out: os.Stdout, isp: isp}
	ended := make(chan error, 1)
	go func() {
		if name == "lab" {
			ended <- stage.playLab(contrib)
		} else {
			ended <- stage.play()
		}
	}()
	select {
	case err = <-ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	if daemon := isp.Daemon(); err != nil && daemon != nil {
		stage.say("\nThe daemon's log:\n")
		stage.print(daemon.Output())
	}
	internet.Close()
	return errors.Join(err, gone(internet))
}

// gone checks that nothing is left of the Internet.
func gone(internet *e2e.Internet) error {
	if left := internet.Left(); len(left) > 0 {
		return fmt.Errorf("left behind: %v", left)
	}
	return nil
}
