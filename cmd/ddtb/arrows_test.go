// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The rooms and who may know whom:
//
//	cmd ──► provision ──► aaa
//	 ├────► tsp            ▲
//	 └─────────────────────┘
//
// tsp and aaa know nobody above them or beside them, nobody knows cmd (a program has folders of its own, for itself
// only), and backend.go is the one place of the daemon where the three meet.
var arrows = map[string][]string{
	"aaa":       {"aaa"},
	"tsp":       {"tsp"},
	"provision": {"provision", "aaa"},
	"cmd":       {"provision", "aaa", "tsp"},
}

// harness may be imported below itself only: the daemon is not to know the tests it is put to.
const harness = "cmd/ddtb/e2e"

// joint is the only file of the product that may import aaa, tsp and provision together.
const joint = "cmd/ddtb/backend.go"

// dependencies are the modules we import ourselves. A new one needs a reason in the commit that brings it, a line here
// and one in .golangci.yml.
var dependencies = []string{
	"github.com/cilium/ebpf",
	"github.com/coreos/go-systemd/v22",
	"github.com/go-asn1-ber/asn1-ber", // go-ldap/ldap/v3's own, for the bound of its messages
	"github.com/go-ldap/ldap/v3",
	"github.com/google/go-cmp",
	"github.com/pelletier/go-toml/v2",
	"github.com/prometheus/client_golang",
	"github.com/redis/go-redis/v9",
	"github.com/rs/zerolog",
	"github.com/spf13/cobra",
	"github.com/vishvananda/netlink",
	"github.com/vishvananda/netns",
	"golang.org/x/crypto",
	"golang.org/x/sync",
	"golang.org/x/sys",
	"golang.org/x/term",
	"golang.zx2c4.com/wireguard",
	"layeh.com/radius",
}

// tree is the whole repository, seen from this package's folder.
var tree = os.DirFS("../..")

// files calls f with every file of the tree that is not git's, not built and not test data.
func files(t *testing.T, f func(name string)) {
	t.Helper()
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", "bin", "dist"}, name):
			return fs.SkipDir
		case entry.IsDir() && entry.Name() == "testdata":
			return fs.SkipDir
		case !entry.IsDir():
			f(name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// rooms gives which rooms of ours the Go file imports, with one path each.
func rooms(t *testing.T, name string) map[string]string {
	t.Helper()
	source, err := fs.ReadFile(tree, name)
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		if inner, ours := strings.CutPrefix(imported, "ddtb/"); ours {
			room, rest, _ := strings.Cut(inner, "/")
			program, _, _ := strings.Cut(rest, "/")
			own := room == "cmd" && below(name, path.Join(room, program))
			if own && (!below(inner, harness) || below(name, harness)) {
				continue
			}
			seen[room] = inner
		}
	}
	return seen
}

func below(name, folder string) bool {
	return name == folder || strings.HasPrefix(name, folder+"/")
}

func TestArrows(t *testing.T) {
	checked := 0
	files(t, func(name string) {
		if path.Ext(name) != ".go" {
			return
		}
		room, _, _ := strings.Cut(name, "/")
		allowed, known := arrows[room]
		if !known {
			t.Errorf("%s: lies in no room (rooms are %v)", name, slices.Sorted(maps.Keys(arrows)))
			return
		}
		imports := rooms(t, name)
		for imported, example := range imports {
			if !slices.Contains(allowed, imported) {
				t.Errorf("%s: imports ddtb/%s, but %s may know only %v", name, example, room, allowed)
			}
		}
		if len(imports) == 3 && name != joint && !strings.HasSuffix(name, "_test.go") && below(name, path.Dir(joint)) {
			t.Errorf("%s: imports aaa, tsp and provision; only %s joins the three", name, joint)
		}
		checked++
	})
	if checked < 20 {
		t.Errorf("only %d Go files found: this test no longer sees the tree", checked)
	}
}

func TestDirectDependencies(t *testing.T) {
	mod, err := fs.ReadFile(tree, "go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var direct []string
	for _, match := range regexp.MustCompile(`(?m)^(?:require )?\s*([a-z][^\s]*\.[^\s]+/\S+|layeh\.com/\S+) v\S+$`).FindAllStringSubmatch(string(mod), -1) {
		direct = append(direct, match[1])
	}
	slices.Sort(direct)
	if !slices.Equal(direct, dependencies) {
		t.Errorf("go.mod requires directly\n\t%s\nwanted, by the list in this file,\n\t%s",
			strings.Join(direct, "\n\t"), strings.Join(dependencies, "\n\t"))
	}

	lint, err := fs.ReadFile(tree, ".golangci.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, module := range dependencies {
		if !strings.Contains(string(lint), "- "+module+"\n") {
			t.Errorf(".golangci.yml: depguard does not allow %s", module)
		}
	}
}
