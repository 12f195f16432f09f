// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// task is a part of the daemon that runs as long as the daemon does. What comes with a room of its own (tsp.Server,
// control.Server) is one already; routine makes one of a function.
type task interface {
	// Run works until ctx is done, then returns nil, or until it cannot go on.
	Run(ctx context.Context) error
	// Ready is closed when the task does what it is there for.
	Ready() <-chan struct{}
	// String names the task.
	String() string
}

// routine is a task made of a function, which calls ready once.
type routine struct {
	name  string
	run   func(ctx context.Context, ready func()) error
	ready chan struct{}
}

func newRoutine(name string, run func(ctx context.Context, ready func()) error) *routine {
	return &routine{name: name, run: run, ready: make(chan struct{})}
}

func (r *routine) Run(ctx context.Context) error {
	return r.run(ctx, func() { close(r.ready) })
}

func (r *routine) Ready() <-chan struct{} { return r.ready }

func (r *routine) String() string { return r.name }

// runTasks runs tasks until ctx is done or one of them fails, which ends the others. It returns when all have ended.
func runTasks(ctx context.Context, tasks ...task) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, t := range tasks {
		group.Go(func() error {
			if err := t.Run(ctx); err != nil {
				return fmt.Errorf("%s: %w", t, err)
			}
			if ctx.Err() == nil {
				return fmt.Errorf("%s: ended by itself", t)
			}
			return nil
		})
	}
	return group.Wait()
}

// awaitReady waits until all tasks are ready; name is the one that was not when ctx was done.
func awaitReady(ctx context.Context, tasks ...task) (name string, ok bool) {
	for _, t := range tasks {
		select {
		case <-t.Ready():
		case <-ctx.Done():
			return t.String(), false
		}
	}
	return "", true
}
