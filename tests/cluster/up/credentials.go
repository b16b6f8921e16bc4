package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// identity is a certificate with its key.
type identity struct {
	cert    *x509.Certificate
	key     crypto.Signer
	certPEM []byte
	keyPEM  []byte
}

// writeCredentials makes two authorities. "ca" is the cluster's: servers, users and, through the CSR API,
// whoever gets one signed. "kubelet-client-ca" signs one certificate, the API server's, and is forgotten:
// the kubelet trusts nobody else.
func (l *layout) writeCredentials() error {
	ca, err := newAuthority("kubernetes")
	if err != nil {
		return err
	}
	kubeletClientCA, err := newAuthority("kubelet-client-ca")
	if err != nil {
		return err
	}
	if err := l.save(ca, "ca"); err != nil {
		return err
	}
	if err := os.WriteFile(l.path("pki", "kubelet-client-ca.crt"), kubeletClientCA.certPEM, 0o600); err != nil {
		return err
	}
	loopback := []net.IP{net.IPv4(127, 0, 0, 1)}
	for _, leaf := range []struct {
		file  string
		by    *identity
		name  pkix.Name
		names []string
		ips   []net.IP
	}{
		{"pki/apiserver", ca, pkix.Name{CommonName: "kube-apiserver"}, []string{
			"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		}, append(loopback, net.IPv4(10, 96, 0, 1))},
		{"pki/kubelet", ca, pkix.Name{CommonName: "system:node:" + nodeName}, []string{nodeName}, loopback},
		{"pki/kubelet-client", kubeletClientCA, pkix.Name{CommonName: "kube-apiserver-kubelet-client"}, nil, nil},
	} {
		id, err := leaf.by.issue(leaf.name, leaf.names, leaf.ips)
		if err != nil {
			return err
		}
		if err := l.save(id, leaf.file); err != nil {
			return err
		}
	}
	for _, user := range []struct {
		file string
		name pkix.Name
	}{
		{"admin", pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}},
		{"pki/controller-manager", pkix.Name{CommonName: "system:kube-controller-manager"}},
		// The stand-in is kubelet and scheduler at once, which no role of the built-in ones covers.
		{"pki/kubelet", pkix.Name{CommonName: "system:node:" + nodeName, Organization: []string{"system:nodes", "system:masters"}}},
	} {
		id, err := ca.issue(user.name, nil, nil)
		if err != nil {
			return err
		}
		if err := clientcmd.WriteToFile(kubeconfig(l.server(), ca, id), l.path(user.file+".kubeconfig")); err != nil {
			return err
		}
	}
	return l.saveServiceAccountKey()
}

// saveServiceAccountKey makes an RSA key, as clusters in the field have: tokens are RS256.
func (l *layout) saveServiceAccountKey() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	return os.WriteFile(l.path("pki", "sa.key"), block, 0o600)
}

func (l *layout) save(id *identity, file string) error {
	if err := os.WriteFile(l.path(file+".crt"), id.certPEM, 0o600); err != nil {
		return err
	}
	return os.WriteFile(l.path(file+".key"), id.keyPEM, 0o600)
}

func newAuthority(name string) (*identity, error) {
	return (*identity)(nil).sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	})
}

func (ca *identity) issue(name pkix.Name, names []string, ips []net.IP) (*identity, error) {
	usage := x509.ExtKeyUsageClientAuth
	if len(ips) > 0 {
		usage = x509.ExtKeyUsageServerAuth
	}
	return ca.sign(&x509.Certificate{
		Subject: name, DNSNames: names, IPAddresses: ips,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	})
}

// sign makes the key too. Without an authority the certificate is its own.
func (ca *identity) sign(template *x509.Certificate) (*identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, err
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0)
	parent, signer := template, crypto.Signer(key)
	if ca != nil {
		parent, signer = ca.cert, ca.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &identity{
		cert: cert, key: key,
		certPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		keyPEM:  pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}),
	}, nil
}

func kubeconfig(server string, ca, user *identity) clientcmdapi.Config {
	const name = "test-cluster"
	return clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: server, CertificateAuthorityData: ca.certPEM}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {ClientCertificateData: user.certPEM, ClientKeyData: user.keyPEM}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	}
}
