package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"sync/atomic"
)

// tlsFiles is the TLS configuration of the port, with the files that it is loaded from.
// Connections that are open keep the certificate with which they began.
type tlsFiles struct {
	config      *AccessConfig
	certificate atomic.Pointer[tls.Certificate]
	clients     atomic.Pointer[x509.CertPool]
}

func openTLS(of *AccessConfig) (*tlsFiles, error) {
	t := &tlsFiles{config: of}
	if err := t.load(); err != nil {
		return nil, err
	}
	if of.TLSClientCA == "" {
		return t, nil
	}
	return t, t.loadClientCA()
}

// load reads the certificate and its key.
func (t *tlsFiles) load() error {
	pair, err := loadPair("TLS_CERT", t.config.TLSCert, "TLS_KEY", t.config.TLSKey)
	if err != nil {
		return err
	}
	t.certificate.Store(pair)
	return nil
}

func (t *tlsFiles) loadClientCA() error {
	pool, err := loadAuthorities("TLS_CLIENT_CA", t.config.TLSClientCA)
	if err != nil {
		return err
	}
	t.clients.Store(pool)
	return nil
}

// server returns the configuration of the listener. HTTP/2 is not offered: a plain take
// must be settled after the write that carries it, which a stream of HTTP/2 does not tell
// (docs/adr/0008).
func (t *tlsFiles) server() *tls.Config {
	config := &tls.Config{
		MinVersion:     tlsVersions[t.config.TLSMin],
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return t.certificate.Load(), nil },
	}
	if t.config.TLSClientCA == "" {
		return config
	}
	config.ClientAuth = tls.VerifyClientCertIfGiven
	// A clone for each handshake, because the authorities may be loaded again. Without
	// tickets a client certificate is checked in each connection.
	config.SessionTicketsDisabled = true
	base := config.Clone()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		c := base.Clone()
		c.ClientCAs = t.clients.Load()
		return c, nil
	}
	return config
}

var tlsVersions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// maxPEM bounds the size of a file of certificates or keys.
const maxPEM = 4 << 20

// loadPair reads a certificate chain and its private key, of two settings.
func loadPair(certSetting, certPath, keySetting, keyPath string) (*tls.Certificate, error) {
	cert, err := readFileOf(certSetting, certPath)
	if err != nil {
		return nil, err
	}
	key, err := readPrivate(keySetting, keyPath, maxPEM)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, usagef("%s %q and %s %q are not a certificate in PEM and its private key", certSetting, certPath, keySetting, keyPath)
	}
	return &pair, nil
}

// loadAuthorities reads certificates of authorities.
func loadAuthorities(setting, path string) (*x509.CertPool, error) {
	text, err := readFileOf(setting, path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, usagef("%s %q has no certificate in PEM", setting, path)
	}
	return pool, nil
}

func readFileOf(setting, path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, usagef("%s %q cannot be read: %s", setting, path, fileFault(err))
	}
	return text, nil
}

// djangoTLS returns the TLS configuration for the backend, or nil for the system's.
func (a *AccessConfig) djangoTLS() (*tls.Config, error) {
	if a.DjangoCA == "" && a.DjangoClientCert == "" {
		return nil, nil //nolint:nilnil // the system's is not an error
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	var err error
	if a.DjangoCA != "" {
		if config.RootCAs, err = loadAuthorities("DJANGO_CA", a.DjangoCA); err != nil {
			return nil, err
		}
	}
	if a.DjangoClientCert != "" {
		pair, err := loadPair("DJANGO_CLIENT_CERT", a.DjangoClientCert, "DJANGO_CLIENT_KEY", a.DjangoClientKey)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{*pair}
	}
	return config, nil
}
