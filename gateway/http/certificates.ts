// Keys and certificates of HTTPS and RTMPS (EDGE): read from their files, or self-signed and kept; read again when the files change and
// when the configuration is reloaded. New connections get the new certificate, those that are open stay.

import { X509Certificate } from "node:crypto";
import { type StatWatcher, unwatchFile, watchFile } from "node:fs";
import { readFile } from "node:fs/promises";
import { createSecureContext } from "node:tls";

import type { HttpsConfig } from "../config/config.js";
import { keptSelfSigned } from "./self-signed.js";
import type { HttpLog } from "./services.js";

/** PEM texts. */
export type Credentials = { readonly key: string; readonly cert: string };

/** The sections that have a key and a certificate; one without takes those of the first that has. */
export type CertificateSections = Readonly<
  Record<"http_api.https" | "http_server.https" | "rtmps", Pick<HttpsConfig, "key" | "cert">>
>;
export type CertificateSection = keyof CertificateSections;

export type CertificatesOptions = {
  readonly sections: CertificateSections;
  readonly dataDir: string;
  readonly log: Pick<HttpLog, "info" | "warn">;
  /** Milliseconds between looks at the files. Default 2000. */
  readonly interval?: number;
};

export class Certificates {
  readonly #options: CertificatesOptions;
  #sections: CertificateSections;
  readonly #users: { readonly section: CertificateSection; readonly use: (credentials: Credentials) => void; current: string }[] =
    [];
  readonly #watched = new Map<string, StatWatcher>();
  #expiryCheck: NodeJS.Timeout | undefined;
  #reading: Promise<void> | undefined;
  #isClosed = false;

  constructor(options: CertificatesOptions) {
    this.#options = options;
    this.#sections = options.sections;
  }

  /**
   * @param use called with each later pair; never with one that does not go together
   * @throws Error naming directive and file
   */
  async get(section: CertificateSection, use: (credentials: Credentials) => void): Promise<Credentials> {
    const { log } = this.#options;
    const credentials = await this.#read(section);
    this.#users.push({ section, use, current: credentials.cert });
    warnOfExpiry(section, credentials.cert, Date.now(), log);
    this.#watch();
    this.#expiryCheck ??= setInterval(() => {
      for (const user of this.#users) warnOfExpiry(user.section, user.current, Date.now(), log);
    }, EXPIRY_CHECK_INTERVAL).unref();
    return credentials;
  }

  /** Reads all files again: they have changed, or other ones are configured now. One that cannot be used changes nothing and is named. */
  async reload(sections: CertificateSections = this.#sections): Promise<void> {
    this.#sections = sections;
    if (this.#isClosed) return;
    while (this.#reading !== undefined) await this.#reading;
    this.#reading = this.#readAll().finally(() => {
      this.#reading = undefined;
    });
    await this.#reading;
    this.#watch();
  }

  close(): void {
    this.#isClosed = true;
    clearInterval(this.#expiryCheck);
    for (const file of this.#watched.keys()) unwatchFile(file, this.#onChange);
    this.#watched.clear();
    this.#users.length = 0;
  }

  async #readAll(): Promise<void> {
    const { log } = this.#options;
    for (const user of [...this.#users]) {
      try {
        const credentials = await this.#read(user.section);
        if (credentials.cert === user.current || this.#isClosed) continue;
        user.use(credentials);
        user.current = credentials.cert;
        const { validTo } = new X509Certificate(credentials.cert);
        log.info({ directive: user.section, valid_to: validTo }, "a new certificate is used from now on");
        warnOfExpiry(user.section, credentials.cert, Date.now(), log);
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        log.warn({ directive: user.section, reason }, "the changed certificate cannot be used, the one before stays");
      }
    }
  }

  #read(section: CertificateSection): Promise<Credentials> {
    const { dataDir, log } = this.#options;
    return readCredentials(section, this.#filesOf(section), dataDir, log);
  }

  #filesOf(section: CertificateSection): Pick<HttpsConfig, "key" | "cert"> {
    const own = this.#sections[section];
    if (own.key !== "" || own.cert !== "") return own;
    return Object.values(this.#sections).find(({ cert }) => cert !== "") ?? own;
  }

  /** Looks at the files every now and then: a link that is put in place of another (as certbot does) tells nobody. */
  #watch(): void {
    const { interval = WATCH_INTERVAL } = this.#options;
    const wanted = new Set<string>();
    for (const { section } of this.#users) {
      const { key, cert } = this.#filesOf(section);
      for (const file of [key, cert]) if (file !== "") wanted.add(file);
    }
    for (const file of this.#watched.keys()) {
      if (wanted.has(file)) continue;
      unwatchFile(file, this.#onChange);
      this.#watched.delete(file);
    }
    for (const file of wanted) {
      if (this.#watched.has(file)) continue;
      this.#watched.set(file, watchFile(file, { interval, persistent: false }, this.#onChange));
    }
  }

  readonly #onChange = (): void => void this.reload();
}

/**
 * Key and certificate of a section. When neither is configured, a self-signed pair is made and kept in `dataDir`.
 *
 * @throws Error naming the directive and the file
 */
async function readCredentials(
  directive: string,
  { key, cert }: Pick<HttpsConfig, "key" | "cert">,
  dataDir: string,
  log: Pick<HttpLog, "info" | "warn">,
): Promise<Credentials> {
  if (key === "" && cert === "") {
    const { file, ...pair } = await keptSelfSigned(dataDir, Date.now());
    const told = `${directive} has no certificate configured: a self-signed one is used`;
    if (file !== undefined) log.info({ certificate: file }, told);
    else log.warn({ data_dir: dataDir }, `${told}, another one after each start: the folder cannot be written`);
    return pair;
  }
  const read = async (name: string, file: string): Promise<string> => {
    if (file === "") throw new Error(`${directive}.${name}: a PEM file is needed beside the other one`);
    return await readFile(file, "utf8").catch((error: Error) => {
      throw new Error(`${directive}.${name}: ${error.message}`, { cause: error });
    });
  };
  const credentials = { key: await read("key", key), cert: await read("cert", cert) };
  try {
    createSecureContext(credentials);
  } catch (error) {
    throw new Error(
      `${directive}: key ${key} and certificate ${cert} do not go together or are no PEM: ${(error as Error).message}`,
      { cause: error },
    );
  }
  return credentials;
}

/** Served all the same: an old certificate is the client's to refuse, and the operator's to see. */
function warnOfExpiry(directive: string, cert: string, now: number, log: Pick<HttpLog, "warn">): void {
  const { validFrom, validTo } = new X509Certificate(cert);
  const left = Date.parse(validTo) - now;
  const fields = { directive, valid_from: validFrom, valid_to: validTo };
  if (left <= 0)
    log.warn(fields, "the certificate has expired: browsers and encoders refuse it; it is served until the file is replaced");
  else if (Date.parse(validFrom) > now) log.warn(fields, "the certificate is not valid yet: browsers and encoders refuse it");
  else if (left < EXPIRY_NOTICE) log.warn(fields, "the certificate expires soon");
}

const WATCH_INTERVAL = 2_000; // ms
const EXPIRY_CHECK_INTERVAL = 12 * 3_600_000; // ms
const EXPIRY_NOTICE = 7 * 86_400_000; // ms
