// SPDX-License-Identifier: GPL-2.0-or-later

package control

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
)

// Users keeps the local accounts. An *Error says what the operator did wrong: 404 no such account, 409 it is there
// already, 400 something cannot be so. Changes are on disk when a method returns nil. LocalUsers is the one over
// aaa/local.
type Users interface {
	List(ctx context.Context) iter.Seq[User] // sorted by name
	Get(ctx context.Context, name string) (User, error)
	Add(ctx context.Context, user NewUser) error
	Change(ctx context.Context, name string, change UserChange) error
	Delete(ctx context.Context, name string) error
}

// accounts gives the Users, or what to tell if there are none.
func (s *Server) accounts() (Users, error) {
	if s.Users == nil {
		return nil, &Error{http.StatusNotFound, "this daemon keeps no local accounts", `"local" is not among its backends`}
	}
	return s.Users, nil
}

func (s *Server) users(w http.ResponseWriter, r *http.Request) error {
	users, err := s.accounts()
	if err != nil {
		return err
	}
	return writeLines(w, func(yield func(User, error) bool) {
		for user := range users.List(r.Context()) {
			if !yield(user, nil) {
				return
			}
		}
	})
}

func (s *Server) user(w http.ResponseWriter, r *http.Request) error {
	users, err := s.accounts()
	if err != nil {
		return err
	}
	user, err := users.Get(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, user)
	return nil
}

func (s *Server) addUser(w http.ResponseWriter, r *http.Request) error {
	users, err := s.accounts()
	if err != nil {
		return err
	}
	var user NewUser
	if err := readJSON(r, &user); err != nil {
		return err
	}
	if err := users.Add(r.Context(), user); err != nil {
		return err
	}
	s.Logger.Info().Str("user", user.Name).Msg("account added")
	w.Header().Set("Location", fmt.Sprintf("/v1/users/%s", url.PathEscape(user.Name)))
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (s *Server) changeUser(w http.ResponseWriter, r *http.Request) error {
	users, err := s.accounts()
	if err != nil {
		return err
	}
	var change UserChange
	if err := readJSON(r, &change); err != nil {
		return err
	}
	name := r.PathValue("name")
	if err := users.Change(r.Context(), name, change); err != nil {
		return err
	}
	s.Logger.Info().Str("user", name).Bool("password", change.Password != nil).Interface("disabled", change.Disabled).Msg("account changed")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) deleteUser(w http.ResponseWriter, r *http.Request) error {
	users, err := s.accounts()
	if err != nil {
		return err
	}
	name := r.PathValue("name")
	if err := users.Delete(r.Context(), name); err != nil {
		return err
	}
	s.Logger.Info().Str("user", name).Msg("account removed")
	w.WriteHeader(http.StatusNoContent)
	return nil
}
