// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// passwordFlags say where a new password comes from. There is none that holds it: a command line can be read by others.
type passwordFlags struct {
	stdin, generate bool
	file            string
}

func (f *passwordFlags) add(c *cobra.Command) {
	c.Flags().BoolVar(&f.stdin, "password-stdin", false, "read the password from standard input, one line")
	c.Flags().StringVar(&f.file, "password-file", "", "read the password from a `file`, its first line")
	c.Flags().BoolVar(&f.generate, "generate", false, "make up a password and print it, this once")
}

// ask gets the password for name; generated says that nobody knows it yet.
func (f *passwordFlags) ask(t *tool, name string) (password string, generated bool, err error) {
	switch {
	case f.stdin && f.generate || f.file != "" && (f.stdin || f.generate):
		return "", false, usageError{errors.New("only one of --password-stdin, --password-file and --generate is expected")}
	case f.generate:
		password, err = generate()
		return password, true, err
	case f.stdin:
		password, err = firstLine(t.in)
	case f.file != "":
		password, err = fileLine(f.file)
	case t.secret != nil:
		password, err = twice(t, name)
	default:
		return "", false, usageError{errors.New("no terminal to ask for the password: use --password-stdin, --password-file or --generate")}
	}
	if err == nil && password == "" {
		err = errors.New("the password is empty")
	}
	return password, false, err
}

// maxLine bounds a password that is read from a file, in octets.
const maxLine = 4096

// firstLine reads one line, without its end.
func firstLine(r io.Reader) (string, error) {
	text, err := bufio.NewReader(io.LimitReader(r, maxLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if len(text) == maxLine {
		return "", fmt.Errorf("a line of %d octets or more", maxLine)
	}
	return strings.TrimRight(text, "\r\n"), nil
}

func fileLine(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	return firstLine(file)
}

// twice asks on the terminal until both are known to be the same.
func twice(t *tool, name string) (string, error) {
	first, err := t.secret("Password for " + name + ": ")
	if err != nil {
		return "", err
	}
	second, err := t.secret("Once more: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two passwords differ")
	}
	return first, nil
}

// alphabet of generated passwords: no letter that is mistaken for another on paper.
const alphabet = "abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"

// generatedLength gives 16 letters of 55: 92 bits.
const generatedLength = 16

// generate makes up a password, each letter as likely as any other.
func generate() (string, error) {
	out := make([]byte, 0, generatedLength)
	fair := 256 - 256%len(alphabet)
	var b [1]byte
	for len(out) < generatedLength {
		if _, err := rand.Read(b[:]); err != nil {
			return "", fmt.Errorf("random number: %w", err)
		}
		if int(b[0]) < fair {
			out = append(out, alphabet[int(b[0])%len(alphabet)])
		}
	}
	return string(out), nil
}

// tellPassword tells that an account has a new password, and which if it was made up.
func (t *tool) tellPassword(name, verb, password string, generated bool) error {
	value := map[string]any{"user": name, "done": verb}
	if !generated {
		return t.done(value, "%s %s", verb, name)
	}
	value["password"] = password
	return t.done(value, "%s %s\npassword: %s", verb, name, password)
}
