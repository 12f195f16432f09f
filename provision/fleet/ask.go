// SPDX-License-Identifier: GPL-2.0-or-later

package fleet

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"ddtb/provision"
)

// Nodes gives all servers that are known, this one as it is now.
func (a *Agent) Nodes(ctx context.Context) ([]Node, error) {
	self := a.self()
	if a.board == nil {
		return []Node{self}, nil
	}
	nodes, err := a.board.Nodes(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	at := slices.IndexFunc(nodes, func(n Node) bool { return n.Name == a.Name })
	if at < 0 {
		return append(nodes, self), nil
	}
	nodes[at] = self
	return nodes, nil
}

// Sessions yields the sessions in force at all servers: those here as they are, those elsewhere as the board has them.
// An error ends it.
func (a *Agent) Sessions(ctx context.Context) iter.Seq2[Session, error] {
	return func(yield func(Session, error) bool) {
		for s := range a.broker.Sessions(provision.Filter{State: provision.Active}) {
			if !yield(Session{Node: a.Name, Session: s}, nil) {
				return
			}
		}
		nodes, err := a.Nodes(ctx)
		if err != nil {
			yield(Session{}, err)
			return
		}
		for _, n := range nodes {
			if n.Name != a.Name && !a.remote(ctx, n.Name, yield) {
				return
			}
		}
	}
}

// remote yields the sessions of another server, and tells whether to go on.
func (a *Agent) remote(ctx context.Context, node string, yield func(Session, error) bool) bool {
	for s, err := range a.board.Sessions(ctx, node) {
		if err != nil {
			yield(Session{}, fmt.Errorf("%w: %w", ErrUnavailable, err))
			return false
		}
		if !yield(s, nil) {
			return false
		}
	}
	return true
}

// Session gives a session of another server; ErrNotFound if none has it.
func (a *Agent) Session(ctx context.Context, id string) (Session, error) {
	if a.board == nil {
		return Session{}, fmt.Errorf("session %.40q: %w", id, ErrNotFound)
	}
	s, err := a.board.Session(ctx, id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return s, err
}

// Kick ends a session at another server and waits until it is done. ErrNotFound if no server has it.
func (a *Agent) Kick(ctx context.Context, id string) error {
	s, err := a.Session(ctx, id)
	if err != nil {
		return err
	}
	if err := a.board.Ask(ctx, s.Node, Command{Verb: Kick, Session: id, By: a.Name}); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	err = await(ctx, func() (bool, error) {
		_, err := a.board.Session(ctx, id)
		if errors.Is(err, ErrNotFound) {
			return true, nil
		}
		return false, err
	})
	if err != nil {
		return fmt.Errorf("server %s was asked to end session %s: %w", s.Node, id, err)
	}
	return nil
}

// Drain makes a server take no more sessions and lead those away that it has (on), or serve again. ErrNowhere if there is
// no server that would take them; ErrNotFound if none has that name.
func (a *Agent) Drain(ctx context.Context, node string, on bool) error {
	if node == "" || node == a.Name {
		return a.drain(ctx, on)
	}
	verb := Undrain
	if on {
		verb = Drain
	}
	seen := Node{}
	look := func() (bool, error) {
		nodes, err := a.Nodes(ctx)
		if err != nil {
			return false, err
		}
		at := slices.IndexFunc(nodes, func(n Node) bool { return n.Name == node })
		if at < 0 {
			return false, fmt.Errorf("server %.40q: %w", node, ErrNotFound)
		}
		if seen = nodes[at]; on && len(choose(slices.Delete(nodes, at, at+1), 1)) == 0 {
			return false, ErrNowhere
		}
		there := seen.State != Gone && seen.State != Stopped // else nothing is known of what it would do
		return there && on == (seen.State == Draining || seen.State == Drained), nil
	}
	if done, err := look(); done || err != nil {
		return err
	}
	if seen.State == Gone || seen.State == Stopped {
		return fmt.Errorf("server %s is %s: %w", node, seen.State, ErrUnavailable)
	}
	if err := a.board.Ask(ctx, node, Command{Verb: verb, By: a.Name}); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err := await(ctx, look); err != nil {
		return fmt.Errorf("server %s was asked to %s: %w", node, verb, err)
	}
	return nil
}
