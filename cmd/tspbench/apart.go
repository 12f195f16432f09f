// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"os/exec"

	"ddtb/cmd/tspbench/lab"
)

// apart is a CPU for the server alone, as it has a machine of its own where there is a choice.
type apart struct {
	all []int
	own int // the server's, -1 if there are none left for the others then
}

// newApart keeps this process, and the daemon it starts, off the last CPU. Join ends it.
func newApart() (*apart, error) {
	all, err := lab.CPUs()
	if err != nil || len(all) < 2 {
		return &apart{all: all, own: -1}, err
	}
	return &apart{all: all, own: all[len(all)-1]}, lab.Confine(all[:len(all)-1])
}

func (a *apart) join() error { return lab.Confine(a.all) }

// launcher starts the server's programs in a namespace; nil is this process's own.
func (a *apart) launcher(space *lab.Space) func(*exec.Cmd) (wait func() error, err error) {
	return func(cmd *exec.Cmd) (func() error, error) {
		process, err := space.StartOn(a.own, cmd)
		if err != nil {
			return nil, err
		}
		return process.Wait, nil
	}
}
