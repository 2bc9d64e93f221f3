package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/knadh/koanf/parsers/toml/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
)

// errConfig marks what only the operator can mend; its exit status is 2.
var errConfig = errors.New("configuration")

// value is a setting's text and where it came from.
type value struct {
	text, source string
}

// load gathers every setting from flags, the environment and one file, in this
// order of precedence, and reads them. flags holds those that were given.
func load(flags map[string]string, configFile string, getenv func(string) (string, bool)) (Config, map[string]value, error) {
	var c Config
	values, err := gather(flags, configFile, getenv)
	if err != nil {
		return c, nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	if err := c.read(values); err != nil {
		return c, nil, err
	}
	if err := c.check(); err != nil {
		return c, nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	return c, values, nil
}

func gather(flags map[string]string, configFile string, getenv func(string) (string, bool)) (map[string]value, error) {
	from, err := newSources(flags, configFile, getenv)
	if err != nil {
		return nil, err
	}
	values := make(map[string]value)
	if err := from.add(values, func(*setting) bool { return true }); err != nil {
		return nil, err
	}
	return values, from.addURL(values)
}

// fromDefault is the source of a value that nobody set.
const fromDefault = "default"

// sources are all the places that a setting may come from.
type sources struct {
	flags  map[string]string
	getenv func(string) (string, bool)
	path   string // of the file, which may be none
	file   map[string]string
}

func newSources(flags map[string]string, path string, getenv func(string) (string, bool)) (*sources, error) {
	if path == "" {
		path, _ = getenv("MESSAGING_CONFIG")
	}
	file, err := readFile(path)
	return &sources{flags: flags, getenv: getenv, path: path, file: file}, err
}

// value looks a setting up, in the order of precedence.
func (from *sources) value(s *setting) (value, error) {
	if text, ok := from.flags[s.flag()]; ok {
		return value{text, "flag --" + s.flag()}, nil
	}
	v, err := from.environment(s)
	if err != nil || v.source != "" {
		return v, err
	}
	if text, ok := from.file[s.key]; ok {
		return value{text, "file " + from.path}, nil
	}
	return value{s.fallback, fromDefault}, nil
}

// environment looks a setting up under all of its names. An empty variable is
// not set.
func (from *sources) environment(s *setting) (value, error) {
	for _, name := range s.environment() {
		if text, ok := from.getenv(name); ok && text != "" {
			return value{text, "environment " + name}, nil
		}
		if !s.secret {
			continue
		}
		if path, ok := from.getenv(name + "_FILE"); ok && path != "" {
			text, err := os.ReadFile(path)
			if err != nil {
				return value{}, fmt.Errorf("%s_FILE cannot be read: %w", name, err)
			}
			return value{strings.TrimSpace(string(text)), "file of " + name + "_FILE"}, nil
		}
	}
	return value{}, nil
}

// add looks up the settings that are wanted.
func (from *sources) add(values map[string]value, wanted func(s *setting) bool) (err error) {
	for i := range settings {
		s := &settings[i]
		if !wanted(s) {
			continue
		}
		if values[s.key], err = from.value(s); err != nil {
			return err
		}
	}
	return nil
}

// addURL makes the address of the service that of this machine's, by what it
// listens on, where nothing else is set.
func (from *sources) addURL(values map[string]value) error {
	if values[keyURL].source != fromDefault {
		return nil
	}
	err := from.add(values, func(s *setting) bool { return s.key == keyAddr || s.key == keyPort })
	addr, port := values[keyAddr], values[keyPort]
	if ip, err := netip.ParseAddr(addr.text); addr.text == "" || (err == nil && ip.IsUnspecified()) {
		addr.text = "127.0.0.1"
	}
	v := value{"http://" + net.JoinHostPort(addr.text, port.text), fromDefault}
	if addr.source != fromDefault || port.source != fromDefault {
		v.source = "HTTP_ADDR and HTTP_PORT"
	}
	values[keyURL] = v
	return err
}

// loadClient gathers what the command line needs to call a service, and nothing
// else: it need not be able to read the service's own secrets.
func loadClient(flags map[string]string, getenv func(string) (string, bool)) (c Config, err error) {
	from, err := newSources(flags, "", getenv)
	if err != nil {
		return c, fmt.Errorf("%w: %w", errConfig, err)
	}
	values := make(map[string]value)
	if err := from.add(values, func(s *setting) bool { return s.client }); err != nil {
		return c, fmt.Errorf("%w: %w", errConfig, err)
	}
	if err := from.addURL(values); err != nil {
		return c, fmt.Errorf("%w: %w", errConfig, err)
	}
	return c, c.read(values)
}

// read sets what there are values for.
func (c *Config) read(values map[string]value) error {
	for i := range settings {
		s := &settings[i]
		v, ok := values[s.key]
		if !ok {
			continue
		}
		if err := s.set(c, v.text); err != nil {
			return fmt.Errorf("%w: %s (from %s) %w", errConfig, s.env(), v.source, err)
		}
	}
	return nil
}

// readFile reads a configuration file, YAML or TOML, and refuses keys that are
// no settings.
func readFile(path string) (map[string]string, error) {
	if path == "" {
		return nil, nil
	}
	var parser koanf.Parser
	switch strings.ToLower(filepath.Ext(path)) {
	case ".yaml", ".yml":
		parser = yaml.Parser()
	case ".toml":
		parser = toml.Parser()
	default:
		return nil, fmt.Errorf("the file %s must end in .yaml, .yml or .toml", path)
	}
	k := koanf.New("\x00")
	if err := k.Load(file.Provider(path), parser); err != nil {
		return nil, fmt.Errorf("the file %s cannot be read: %w", path, err)
	}
	values := make(map[string]string)
	for key, raw := range k.Raw() {
		if !isSetting(key) {
			return nil, fmt.Errorf("the file %s has the unknown key %q", path, key)
		}
		text, ok := scalar(raw)
		if !ok {
			return nil, fmt.Errorf("the file %s: %s must be one value or a list of values", path, key)
		}
		values[key] = text
	}
	return values, nil
}

func isSetting(key string) bool {
	for i := range settings {
		if settings[i].key == key {
			return true
		}
	}
	return false
}

// scalar gives the text of a value in a file; a list becomes its items with
// commas between them.
func scalar(raw any) (string, bool) {
	switch v := raw.(type) {
	case nil:
		return "", true
	case map[string]any:
		return "", false
	case []any:
		items := make([]string, len(v))
		for i, item := range v {
			text, ok := scalar(item)
			if !ok {
				return "", false
			}
			items[i] = text
		}
		return strings.Join(items, ","), true
	}
	return fmt.Sprint(raw), true
}
