// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// document is a TOML text held against a struct: where each key stands, and everything that does not fit. It exists so
// that every message can name file, line and key, for mistakes of spelling and type as well as for those of meaning.
type document struct {
	file     string
	lines    map[string]int // path of a key, "pool[1].prefixes", to its line
	tables   map[string]int // name of an array of tables to how many were seen
	problems []problem
	parser   unstable.Parser
}

// problem is one mistake of a configuration.
type problem struct {
	file string
	line int    // 0: the file as a whole
	key  string // dotted, as a reader would say it; "" for a mistake of syntax
	text string
}

// Error gives "FILE:LINE: KEY: what was expected".
func (p problem) Error() string {
	text := p.file
	if p.line > 0 {
		text += ":" + strconv.Itoa(p.line)
	}
	if p.key != "" {
		text += ": " + p.key
	}
	return text + ": " + p.text
}

// readDocument parses text and holds it against the type of target. What is wrong is in document.problems.
func readDocument(file string, text []byte, target reflect.Type) *document {
	d := &document{file: file, lines: map[string]int{}, tables: map[string]int{}}
	var syntax *toml.DecodeError
	if err := toml.Unmarshal(text, &map[string]any{}); errors.As(err, &syntax) {
		line, _ := syntax.Position()
		d.problems = append(d.problems, problem{file, line, "", "not TOML: " + strings.TrimPrefix(syntax.Error(), "toml: ")})
		return d
	} else if err != nil {
		d.problems = append(d.problems, problem{file, 0, "", "not TOML: " + err.Error()})
		return d
	}
	d.parser.Reset(text)
	path, within := "", target
	for d.parser.NextExpression() {
		node := d.parser.Expression()
		switch node.Kind {
		case unstable.Table, unstable.ArrayTable:
			path, within = d.enter(node, target)
		default: // a key with its value; an expression is nothing else
			d.keyValue(path, within, node)
		}
	}
	return d
}

// enter follows a [table] or [[table]] header from the root. A nil type means that its keys are not looked at, since the
// header itself was refused.
func (d *document) enter(node *unstable.Node, root reflect.Type) (string, reflect.Type) {
	path, within := "", root
	for it := node.Key(); it.Next(); {
		name := string(it.Node().Data)
		path = join(path, name)
		line := d.line(it.Node())
		field, found := fieldByKey(within, name)
		if !found {
			d.report(path, line, unknown("section", name, within))
			return path, nil
		}
		if _, seen := d.lines[path]; !seen {
			d.lines[path] = line
		}
		within = field.Type
		if within.Kind() == reflect.Slice && isTable(within.Elem()) {
			if node.Kind != unstable.ArrayTable {
				d.report(path, line, fmt.Sprintf("one section of several: expected [[%s]] with two brackets", path))
				return path, nil
			}
			path = d.element(path, line)
			within = within.Elem()
		} else if !isTable(within) {
			d.report(path, line, "a section header where a value is expected: "+expected(field, field.Type))
			return path, nil
		} else if node.Kind == unstable.ArrayTable && it.IsLast() {
			d.report(path, line, fmt.Sprintf("there is one such section only: expected [%s] with one bracket", path))
			return path, nil
		}
	}
	return path, within
}

// element counts one more table of an array and gives its path.
func (d *document) element(path string, line int) string {
	element := fmt.Sprintf("%s[%d]", path, d.tables[path])
	d.tables[path]++
	d.lines[element] = line
	return element
}

// keyValue checks one "key = value".
func (d *document) keyValue(path string, within reflect.Type, node *unstable.Node) {
	if within == nil {
		return
	}
	var field reflect.StructField
	for it := node.Key(); it.Next(); {
		name := string(it.Node().Data)
		line := d.line(it.Node())
		if !isTable(within) {
			d.report(path, line, "not a section: expected "+expected(field, field.Type))
			return
		}
		var found bool
		if field, found = fieldByKey(within, name); !found {
			d.report(join(path, name), line, unknown("key", name, within))
			return
		}
		path, within = join(path, name), field.Type
		d.lines[path] = line
	}
	d.value(path, field, within, node.Value())
}

// value checks a value against the type that is to hold it, and goes into arrays and inline tables.
func (d *document) value(path string, field reflect.StructField, want reflect.Type, node *unstable.Node) {
	line := d.lines[path]
	switch {
	case isTable(want) && node.Kind == unstable.InlineTable:
		for it := node.Children(); it.Next(); {
			d.keyValue(path, want, it.Node())
		}
	case want.Kind() == reflect.Slice && !isText(want) && node.Kind == unstable.Array:
		for i, it := 0, node.Children(); it.Next(); i++ {
			element := fmt.Sprintf("%s[%d]", path, i)
			d.lines[element] = line
			if start := d.line(it.Node()); start > 0 {
				d.lines[element] = start
			}
			d.value(element, field, want.Elem(), it.Node())
		}
	default:
		if !fits(field, want, node) {
			d.report(path, line, fmt.Sprintf("%s: expected %s", written(node), expected(field, want)))
		}
	}
}

// fits reports whether a plain value can be held by want. Texts are tried by their own parser.
func fits(field reflect.StructField, want reflect.Type, node *unstable.Node) bool {
	if isText(want) {
		value, ok := reflect.New(want).Interface().(encoding.TextUnmarshaler)
		return ok && node.Kind == unstable.String && value.UnmarshalText(node.Data) == nil
	}
	switch want.Kind() {
	case reflect.String:
		return node.Kind == unstable.String && oneOf(field, string(node.Data))
	case reflect.Bool:
		return node.Kind == unstable.Bool
	case reflect.Int, reflect.Int64:
		return node.Kind == unstable.Integer && !strings.HasPrefix(string(node.Data), "-")
	case reflect.Uint16, reflect.Uint32:
		_, err := strconv.ParseUint(strings.ReplaceAll(string(node.Data), "_", ""), 0, want.Bits())
		return node.Kind == unstable.Integer && err == nil
	default:
		return false
	}
}

// oneOf reports whether value is among the words of the field's tag `one`, if it has one.
func oneOf(field reflect.StructField, value string) bool {
	words, limited := field.Tag.Lookup("one")
	if !limited {
		return true
	}
	for _, word := range strings.Fields(words) {
		if word == value {
			return true
		}
	}
	return false
}

// report adds a problem with a key at a line that is known.
func (d *document) report(path string, line int, text string) {
	d.problems = append(d.problems, problem{d.file, line, plain(path), text})
}

// reject adds a problem with the value of a key. A key that is not in the text is reported at its section, or for the
// file as a whole.
func (d *document) reject(path, format string, args ...any) {
	for at := path; ; {
		if line, found := d.lines[at]; found {
			d.report(path, line, fmt.Sprintf(format, args...))
			return
		}
		dot := strings.LastIndexByte(at, '.')
		if dot < 0 {
			d.report(path, 0, fmt.Sprintf(format, args...))
			return
		}
		at = at[:dot]
	}
}

// has reports whether the text gives the key.
func (d *document) has(path string) bool { _, found := d.lines[path]; return found }

// err joins the problems in the order of their lines, nil if there are none.
func (d *document) err() error {
	sort.SliceStable(d.problems, func(i, j int) bool { return d.problems[i].line < d.problems[j].line })
	all := make([]error, len(d.problems))
	for i, p := range d.problems {
		all[i] = p
	}
	return errors.Join(all...)
}

func (d *document) line(node *unstable.Node) int {
	if node.Raw.Length == 0 {
		return 0
	}
	return d.parser.Shape(node.Raw).Start.Line
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// plain takes the indices out of a path: a reader finds the place by its line.
func plain(path string) string {
	var out strings.Builder
	depth := 0
	for _, r := range path {
		switch {
		case r == '[':
			depth++
		case r == ']':
			depth--
		case depth == 0:
			out.WriteRune(r)
		}
	}
	return out.String()
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

func isText(t reflect.Type) bool  { return reflect.PointerTo(t).Implements(textUnmarshaler) }
func isTable(t reflect.Type) bool { return t.Kind() == reflect.Struct && !isText(t) }

// fieldByKey finds the field of a struct with that toml tag. Keys are matched exactly.
func fieldByKey(t reflect.Type, key string) (reflect.StructField, bool) {
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("toml") == key {
			return t.Field(i), true
		}
	}
	return reflect.StructField{}, false
}
