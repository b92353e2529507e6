/** Who and what there is at this clinic. Ids are in the events; names are only shown. */

export interface Named {
  readonly id: string;
  readonly name: string;
}

export const doctors = [
  { id: "okafor", name: "Dr Amara Okafor", field: "General practice" },
  { id: "lindqvist", name: "Dr Nils Lindqvist", field: "Cardiology" },
  { id: "tanaka", name: "Dr Yui Tanaka", field: "Dermatology" },
  { id: "moreau", name: "Dr Claire Moreau", field: "Paediatrics" },
] as const;

export const patients: readonly Named[] = [
  { id: "p-duarte", name: "Inês Duarte" },
  { id: "p-fischer", name: "Jonas Fischer" },
  { id: "p-haddad", name: "Leila Haddad" },
  { id: "p-kowalski", name: "Marek Kowalski" },
  { id: "p-nguyen", name: "Linh Nguyen" },
  { id: "p-oconnor", name: "Saoirse O’Connor" },
  { id: "p-rossi", name: "Paolo Rossi" },
  { id: "p-silva", name: "Beatriz Silva" },
];

export const rooms: readonly Named[] = [
  { id: "1", name: "Room 1" },
  { id: "2", name: "Room 2" },
  { id: "3", name: "Room 3" },
  { id: "4", name: "Room 4" },
  { id: "lab", name: "Laboratory" },
];

export const appointmentTypes: readonly Named[] = [
  { id: "consultation", name: "Consultation" },
  { id: "check-up", name: "Check-up" },
  { id: "follow-up", name: "Follow-up" },
  { id: "vaccination", name: "Vaccination" },
  { id: "procedure", name: "Procedure" },
];

export const reception: Named = { id: "reception", name: "Reception" };

const names = new Map(
  [...doctors, ...patients, ...rooms, ...appointmentTypes, reception].map(({ id, name }) => [id, name]),
);

/** What a doctor, patient, room, type or actor is called; its id if nobody knows. */
export function nameOf(id: string): string {
  return names.get(id) ?? id;
}
